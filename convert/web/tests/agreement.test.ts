/** What two runtimes of a file, and two models, have in common. */
import assert from "node:assert/strict";
import test from "node:test";
import { agreement, isSame } from "../src/app/agreement";
import type { Answer } from "../src/app/protocol";
import type { Box } from "../src/infer";

const NAMES = ["cat", "dog", "cow"];
const state = {} as Answer["state"];

function classes(...shares: [number, number][]): Answer {
  const predictions = shares.map(([index, probability]) => ({ index, label: NAMES[index]!, probability }));
  return { task: "classification", found: { predictions, shown: [1, 1] }, state };
}

function pixels(mask: number[], names = NAMES): Answer {
  const classes = [...new Set(mask)].map((index) => ({ index, label: names[index]!, share: 0, pixels: 0 }));
  return { task: "segmentation", found: { mask: Uint8Array.from(mask), width: mask.length, height: 1, classes }, state };
}

function objects(...found: [number, number, Box][]): Answer {
  const objects = found.map(([index, score, box]) => ({ index, label: NAMES[index]!, score, box }));
  return { task: "detection", found: { objects, width: 100, height: 100 }, state };
}

const BOX: Box = [10, 10, 50, 50];

test("runtimes may round, and no more", () => {
  const first = classes([0, 0.7], [1, 0.2], [2, 0.005]);
  assert.ok(isSame(first, classes([0, 0.705], [1, 0.195], [2, 0.004])));
  assert.ok(!isSame(first, classes([0, 0.72], [1, 0.19], [2, 0.004])));
  // The last places may be another class's.
  assert.ok(isSame(first, classes([0, 0.7], [1, 0.2])));
  assert.ok(!isSame(first, classes([1, 0.7], [0, 0.2])));
  const mask = Array.from({ length: 200 }, (_, at) => at % 2);
  assert.ok(isSame(pixels(mask), pixels([...mask.slice(0, 199), 0])));
  assert.ok(!isSame(pixels(mask), pixels([...mask.slice(0, 191), ...mask.slice(191).map((one) => 1 - one)])));
  assert.ok(!isSame(pixels(mask), pixels(mask.slice(1))));
  const near = objects([0, 0.305, [10, 10, 50, 50.5]]);
  assert.ok(isSame(objects([0, 0.299, BOX]), near) && isSame(near, objects([0, 0.299, BOX])));
  for (const other of [objects(), objects([0, 0.4, BOX]), objects([1, 0.305, BOX]), objects([0, 0.305, [10, 10, 50, 54]])]) {
    assert.ok(!isSame(near, other) && !isSame(other, near));
  }
  assert.ok(!isSame(first, near));
});

test("models agree in the first class, in pixels, in objects", () => {
  assert.equal(agreement(classes([0, 0.9]), classes([0, 0.4], [1, 0.3])), 1);
  assert.equal(agreement(classes([0, 0.5], [1, 0.4]), classes([1, 0.5], [0, 0.4])), 0);
  assert.equal(agreement(pixels([0, 0, 1, 1]), pixels([0, 1, 1, 1])), 0.75);
  // By name, not by number.
  assert.equal(agreement(pixels([0, 0, 1, 1]), pixels([1, 1, 0, 0], ["dog", "cat"])), 1);
  assert.equal(agreement(pixels([0, 0, 2, 2]), pixels([0, 0, 1, 1])), 0.5);
  const [first, second]: Box[] = [[0, 0, 10, 10], [50, 50, 60, 60]];
  const two = objects([0, 0.9, first!], [1, 0.8, second!]);
  assert.equal(agreement(two, objects([1, 0.5, [51, 50, 60, 60]], [0, 0.6, first!])), 1);
  assert.equal(agreement(two, objects([0, 0.6, first!], [2, 0.2, second!])), 2 / 3);
  assert.equal(agreement(two, objects([1, 0.9, first!], [0, 0.9, second!])), 0);
  // Two of one are not the same one twice.
  assert.equal(agreement(objects([0, 0.9, first!], [0, 0.8, first!]), objects([0, 0.9, first!])), 2 / 3);
  assert.equal(agreement(objects(), objects([0, 0.2, first!])), 1);
  assert.equal(agreement(two, classes([0, 1])), null);
});
