/** A detector's boxes, by the table that Python and the device script read too. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { type Decoding, decodeBox, makeAnchors, overlaps, suppress } from "../src/infer/boxes";
import type { Box, Size } from "../src/infer/geometry";

interface Table {
  size: Size;
  decoding: Decoding;
  boxes: { number: number; anchor: number[]; location: number[]; box: number[] }[];
  suppression: {
    score_threshold: number;
    iou_threshold: number;
    boxes: Box[];
    scores: number[][];
    /** Box and class, the surest first. */
    kept: [number, number][];
  };
}

const FILE = new URL("../../../tests/data/box_cases.json", import.meta.url);
const { size, decoding, boxes, suppression } = JSON.parse(readFileSync(FILE, "utf8")) as Table;

function close(found: ArrayLike<number>, wanted: readonly number[], tolerance = 2e-6): void {
  wanted.forEach((value, at) => assert.ok(Math.abs(found[at]! - value) <= tolerance * Math.max(1, Math.abs(value)), `${found} is not ${wanted}`));
}

test("anchors and boxes relative to them", () => {
  const anchors = makeAnchors(decoding, size);
  assert.equal(anchors.length, 4 * decoding.num_anchors);
  const location = new Float32Array(anchors.length);
  for (const { number, anchor, location: numbers, box } of boxes) {
    close(anchors.subarray(4 * number, 4 * number + 4), anchor);
    location.set(numbers, 4 * number);
    close(decodeBox(location, anchors, decoding.variance, number), box);
  }
});

test("of boxes of a class that lie on each other the surest stays", () => {
  const { scores, kept, score_threshold: threshold } = suppression;
  const asked = new Set<number>();
  const boxOf = (anchor: number) => {
    assert.ok(!asked.has(anchor), "each box is asked for once");
    asked.add(anchor);
    return suppression.boxes[anchor]!;
  };
  const found = suppress(boxOf, Float32Array.from(scores.flat()), 3, threshold, suppression.iou_threshold);
  const names = found.map(({ box, index }) => [suppression.boxes.indexOf(box), index]);
  assert.deepEqual(names, kept);
  const sureness = found.map(({ score }) => score);
  assert.deepEqual(sureness, [...sureness].sort((a, b) => b - a));
  // A higher threshold leaves the first of them.
  const fewer = suppress((at) => suppression.boxes[at]!, Float32Array.from(scores.flat()), 3, 0.5);
  assert.deepEqual(fewer, found.slice(0, fewer.length));
  assert.ok(fewer.length > 3 && fewer.length < found.length);
});

test("overlaps", () => {
  assert.equal(overlaps([0, 0, 2, 2], [1, 0, 3, 2]), 1 / 3);
  assert.equal(overlaps([0, 0, 1, 1], [1, 0, 2, 1]), 0);
  assert.equal(overlaps([0, 0, 0, 0], [0, 0, 0, 0]), 0);
});

test("no more than 200 of each class", () => {
  const boxOf = (at: number): Box => [at, 0, at + 0.5, 1];
  const found = suppress(boxOf, new Float32Array(2 * 300).fill(0.6), 2, 0.05);
  assert.equal(found.length, 400);
});
