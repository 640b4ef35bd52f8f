/** Masks of logits, and their colours. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import type { Size } from "../src/infer/geometry";
import { classMask } from "../src/infer/masks";
import { classColour } from "../src/infer/palette";
import { linearSamples } from "../src/infer/preprocess";
import { sharesOf } from "../src/infer/tasks/segment";

/** Numbers that look random, the same ones every time. */
function noise(count: number, seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647 - 0.5;
  });
}

/** Every class at every pixel, as Python computes them. */
function plainMask(logits: Float32Array, cells: Size, count: number, [height, width]: Size): number[] {
  const [rows, columns] = [linearSamples(cells[0], height), linearSamples(cells[1], width)];
  const mask: number[] = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const values = Array.from({ length: count }, (_, number) => {
        let total = 0;
        for (const i of [0, 1]) {
          for (const j of [0, 1]) {
            const cell = rows.index[2 * y + i]! * cells[1] + columns.index[2 * x + j]!;
            total += rows.weight[2 * y + i]! * columns.weight[2 * x + j]! * logits[cell * count + number]!;
          }
        }
        return total;
      });
      mask.push(values.indexOf(Math.max(...values)));
    }
  }
  return mask;
}

test("logits are enlarged, then the class is chosen", () => {
  // The example of Python's `class_masks`: of four pixels, two are nearer to each cell.
  assert.deepEqual([...classMask(Float32Array.of(2, 0, 0, 1), [1, 2], 2, [1, 4])], [0, 0, 1, 1]);
  // Between a 0 and a 2 that are both sure lies a 1 that is never the best at a cell itself.
  const between = Float32Array.of(3, 2, 0, 0, 2, 3);
  assert.deepEqual([...classMask(between, [1, 2], 3, [1, 8])], [0, 0, 0, 1, 1, 2, 2, 2]);
});

test("what is left out of the sums changes nothing", () => {
  const shapes: [Size, number, Size][] = [
    [[4, 6], 5, [37, 41]],
    [[8, 8], 21, [64, 96]],
    [[3, 2], 4, [300, 7]],
    [[6, 5], 3, [5, 4]],
    [[1, 1], 3, [9, 9]],
  ];
  for (const [cells, count, size] of shapes) {
    const logits = noise(cells[0] * cells[1] * count, cells[0] * size[0]);
    const mask = classMask(logits, cells, count, size);
    assert.deepEqual([...mask], plainMask(logits, cells, count, size), `${cells} ${size}`);
    assert.ok(count > 21 || new Set(mask).size > 1 || cells[0] === 1);
  }
});

test("of equal logits the first class's number", () => {
  assert.ok(!classMask(new Float32Array(24), [2, 3], 4, [50, 70]).some(Boolean));
  const second = Float32Array.of(0, 1, 1, 0, 1, 1);
  assert.deepEqual(new Set(classMask(second, [1, 2], 3, [4, 4])), new Set([1]));
});

test("shares of the classes that occur, the most frequent first", () => {
  assert.deepEqual(sharesOf(Uint8Array.of(2, 0, 2, 2), ["a", "b", "c"]), [
    { index: 2, label: "c", share: 0.75 },
    { index: 0, label: "a", share: 0.25 },
  ]);
});

test("colours of the table that all of them read", () => {
  const table = new URL("../../../tests/data/palette_cases.json", import.meta.url);
  const { colours } = JSON.parse(readFileSync(table, "utf8")) as { colours: Record<string, number[]> };
  assert.ok(Object.keys(colours).length > 10);
  for (const [number, colour] of Object.entries(colours)) {
    assert.deepEqual(classColour(Number(number)), colour, number);
  }
});
