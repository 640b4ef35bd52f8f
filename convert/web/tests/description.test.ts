/** What files say of themselves, and what is refused. */
import assert from "node:assert/strict";
import test from "node:test";
import { deflateRawSync } from "node:zlib";
import { checked, describedTfjs, describedTflite, fromReport } from "../src/infer/description";

const DESCRIPTION = {
  schema: 1,
  task: "classification",
  variant: "mobilevit_xxs",
  precision: "float32",
  size: [64, 64],
  preprocessing: { short_side: 72, crop_size: 64, interpolation: "bilinear" },
  class_names: ["Ä", "b"],
};

/** An archive with these entries behind other bytes; `base` is what its offsets count from. */
function archived(entries: Record<string, string>, { base = 0, method = 0, comment = "" } = {}): Uint8Array {
  const model = Buffer.from("\0\0\0\0TFL3 the model PK\x05\x06 is no archive");
  const parts: Buffer[] = [model];
  const directory: Buffer[] = [];
  let at = model.length;
  for (const [name, text] of Object.entries(entries)) {
    const contents = method ? deflateRawSync(text) : Buffer.from(text);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(method, 8);
    local.writeUInt16LE(Buffer.byteLength(name), 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(contents.length, 20);
    entry.writeUInt32LE(Buffer.byteLength(text), 24);
    entry.writeUInt16LE(Buffer.byteLength(name), 28);
    entry.writeUInt32LE(at - base, 42);
    directory.push(entry, Buffer.from(name));
    parts.push(local, Buffer.from(name), contents);
    at += 30 + Buffer.byteLength(name) + contents.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Object.keys(entries).length, 10);
  end.writeUInt32LE(Buffer.concat(directory).length, 12);
  end.writeUInt32LE(at - base, 16);
  end.writeUInt16LE(comment.length, 20);
  return new Uint8Array(Buffer.concat([...parts, ...directory, end, Buffer.from(comment)]));
}

const ENTRIES = { "labels.txt": "Ä\nb\n", "mobilevit_keras.json": JSON.stringify(DESCRIPTION) };

test("an archive behind the model, wherever its offsets count from", () => {
  assert.deepEqual(describedTflite(archived(ENTRIES)), DESCRIPTION);
  assert.deepEqual(describedTflite(archived(ENTRIES, { base: 21 })), DESCRIPTION);
  assert.deepEqual(describedTflite(archived(ENTRIES, { comment: "written by a tool" })), DESCRIPTION);
  // A view into a larger buffer.
  const inside = Buffer.concat([Buffer.from("before"), archived(ENTRIES)]).subarray(6);
  assert.deepEqual(describedTflite(inside), DESCRIPTION);
});

test("files without a description", () => {
  assert.equal(describedTflite(new Uint8Array(0)), null);
  assert.equal(describedTflite(new TextEncoder().encode("\0\0\0\0TFL3")), null);
  assert.equal(describedTflite(archived({ "labels.txt": "a" })), null);
  assert.equal(describedTflite(archived(ENTRIES, { method: 8 })), null);
  assert.equal(describedTflite(archived(ENTRIES).subarray(0, -30)), null);
  assert.equal(describedTfjs({}), null);
});

test("model.json's metadata", () => {
  const json = { userDefinedMetadata: { mobilevit_keras: DESCRIPTION } };
  assert.deepEqual(describedTfjs(json), DESCRIPTION);
});

test("the two files beside an export of 0.1.0", () => {
  const { schema: _, task: __, class_names: names, ...report } = DESCRIPTION;
  const found = fromReport({ ...report, num_classes: 2 }, names);
  assert.deepEqual(found.class_names, names);
  assert.equal(found.task, "classification");
  assert.throws(() => fromReport({ ...report, num_classes: 3 }, names), /each of the 3 classes/);
});

test("a stretch, and a crop of two sides", () => {
  const preprocessing = { short_side: 64, crop_size: [64, 96], interpolation: "bilinear", resize: "stretch" };
  const found = { ...DESCRIPTION, task: "segmentation", size: [64, 96], preprocessing };
  assert.deepEqual(checked(found), found);
  const refused = (changes: object) =>
    checked({ ...found, preprocessing: { ...preprocessing, ...changes } });
  assert.throws(() => refused({ resize: "letterbox" }), /Received: letterbox/);
  assert.throws(() => refused({ crop_size: [64] }), /lacks/);
  assert.throws(() => refused({ crop_size: [64, 0] }), /lacks/);
  assert.throws(() => refused({ crop_size: undefined }), /lacks/);
});

test("refusals", () => {
  assert.throws(() => checked({ ...DESCRIPTION, schema: 2 }), /newer version/);
  assert.throws(() => checked({ ...DESCRIPTION, size: [64] }), /lacks/);
  assert.throws(() => checked({ ...DESCRIPTION, task: undefined }), /lacks/);
  assert.throws(() => checked(null), /lacks/);
  const broken = archived({ "mobilevit_keras.json": "{" });
  assert.throws(() => describedTflite(broken), /no JSON/);
});
