/** What a model's file says of itself: the exporter writes it into the file. */
import { InferError } from "./errors";
import { type Preprocessing, sidesOf, type Size } from "./geometry";

/** A description; unknown fields are kept. */
export interface Description {
  schema: number;
  /** What is asked of an image: "classification", "segmentation" or "detection". */
  task: string;
  variant: string;
  precision: string;
  /** Height and width of the input. */
  size: Size;
  preprocessing: Preprocessing;
  outputs?: { name: string; dtype: string; shape: number[] }[];
  class_names: string[];
  parameters?: number;
  /** How far the file's answers lie from Keras's: figures of the task, and in words. */
  parity?: { images: number; summary?: string; [figure: string]: unknown } | null;
  /** Figures of the task on validation images. */
  accuracy?: { images: number; [figure: string]: number } | null;
  [field: string]: unknown;
}

/** The description's name in a `.tflite` file's archive and in `model.json`'s metadata. */
const ENTRY = "mobilevit_keras.json";
const METADATA = "mobilevit_keras";
const SCHEMA = 1;
const RESIZES: readonly (string | undefined)[] = ["crop", "stretch", undefined];

const END_OF_ARCHIVE = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_ENTRY = 0x04034b50;
/** The archive's last record, whose comment may have up to 65,535 bytes. */
const END_LENGTH = 22;
const MAX_COMMENT = 0xffff;

/**
 * The description in the archive that follows a `.tflite` file's model, or null.
 *
 * @throws InferError `not_a_model` where there is one that cannot be read.
 */
export function describedTflite(bytes: Uint8Array): Description | null {
  const text = storedEntry(bytes, ENTRY);
  if (text === null) return null;
  try {
    return checked(JSON.parse(text));
  } catch (error) {
    if (error instanceof InferError) throw error;
    throw new InferError("not_a_model", `its description is no JSON: ${String(error)}`);
  }
}

/** The description in a TensorFlow.js `model.json`, or null. */
export function describedTfjs(json: { userDefinedMetadata?: Record<string, unknown> }): Description | null {
  const found = json.userDefinedMetadata?.[METADATA];
  return found === undefined ? null : checked(found);
}

/** The description of an export of 0.1.0, from the two files that lie beside it. */
export function fromReport(report: Record<string, unknown>, labels: string[]): Description {
  const { num_classes: count } = report;
  if (labels.length !== count) {
    throw new InferError(
      "wrong_task",
      `there must be a name for each of the ${String(count)} classes. Received: ${labels.length}.`,
    );
  }
  return checked({ schema: SCHEMA, task: "classification", ...report, class_names: labels });
}

/** Refuses what this version cannot read; each task checks its own part. */
export function checked(value: unknown): Description {
  const found = (value ?? {}) as Partial<Description>;
  if (typeof found.schema === "number" && found.schema > SCHEMA) {
    throw new InferError("wrong_task", "the file was written by a newer version than this page's");
  }
  const { size, preprocessing } = found;
  const numbers = preprocessing
    ? [...(size ?? []), preprocessing.short_side, ...[sidesOf(preprocessing)].flat()]
    : [];
  const areSizes = numbers.length === 5 && numbers.every((n) => Number.isInteger(n) && n > 0);
  const words = [found.task, found.variant, found.precision];
  if (!areSizes || !words.every((word) => typeof word === "string")) {
    throw new InferError("wrong_task", "the description lacks a size, a task or the preprocessing");
  }
  if (!RESIZES.includes(preprocessing!.resize)) {
    throw new InferError(
      "wrong_task",
      `images must be resized by "crop" or "stretch". Received: ${String(preprocessing!.resize)}.`,
    );
  }
  return found as Description;
}

/** The text of an uncompressed entry of the archive at the end of these bytes, or null. */
function storedEntry(bytes: Uint8Array, wanted: string): string | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = endOfArchive(view);
  if (end < 0) return null;
  const length = view.getUint32(end + 12, true);
  // Offsets count from the archive's own beginning or from the file's: the directory's place tells.
  const base = end - length - view.getUint32(end + 16, true);
  let at = end - length;
  if (at < 0) return null;
  for (let count = view.getUint16(end + 10, true); count > 0; count--) {
    if (at + 46 > end || view.getUint32(at, true) !== DIRECTORY_ENTRY) return null;
    const method = view.getUint16(at + 10, true);
    const size = view.getUint32(at + 20, true);
    const [name, extra, comment] = [28, 30, 32].map((field) => view.getUint16(at + field, true)) as [
      number,
      number,
      number,
    ];
    const local = base + view.getUint32(at + 42, true);
    if (decode(bytes, at + 46, name) === wanted) {
      if (method !== 0 || local < 0 || local + 30 > end) return null;
      if (view.getUint32(local, true) !== LOCAL_ENTRY) return null;
      const skipped = 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      return decode(bytes, local + skipped, size);
    }
    at += 46 + name + extra + comment;
  }
  return null;
}

function endOfArchive(view: DataView): number {
  const last = view.byteLength - END_LENGTH;
  for (let at = last; at >= Math.max(0, last - MAX_COMMENT); at--) {
    if (view.getUint32(at, true) === END_OF_ARCHIVE) return at;
  }
  return -1;
}

function decode(bytes: Uint8Array, start: number, length: number): string {
  return new TextDecoder().decode(bytes.subarray(start, start + length));
}
