/** Where in an image a class is, and the colours of it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import type { Size } from "../src/infer/geometry";
import { placement, toImage } from "../src/infer/geometry";
import { heatColour, heatColours, type HeatMap, heatOf, heatPicture } from "../src/infer/heat";

/** A map of two classes, whose second one has no score: the mean is half of the first's. */
function mapOf(cells: Size, scoreOf: (row: number, column: number) => number): HeatMap {
  const scores = new Float32Array(2 * cells[0] * cells[1]);
  for (let row = 0; row < cells[0]; row++) {
    for (let column = 0; column < cells[1]; column++) {
      scores[2 * (row * cells[1] + column)] = scoreOf(row, column);
    }
  }
  const image: Size = [100, 200];
  const preprocessing = { short_side: 50, crop_size: [40, 60], interpolation: "bilinear" } as const;
  const window = toImage([0, 0, 60, 40], placement(image, preprocessing, [40, 60]));
  return { cells, count: 2, scores, window, image };
}

test("the heat is what a class has above the mean, over the most of it", () => {
  const map: HeatMap = {
    ...mapOf([1, 2], () => 0),
    count: 3,
    // 4 and 1 above the mean of 2 and 5: what all classes have says nothing.
    scores: Float32Array.of(6, 0, 0, 6, 5, 4),
  };
  assert.deepEqual([...heatOf(map, 0)], [1, 0.25]);
  assert.deepEqual([...heatOf(map, 2)], [0, 0], "below the mean everywhere");
});

test("a ramp stays one, in the part of the image that the model sees", () => {
  // As Python's `scores_back`: the window is 80 x 120 at (10, 40), 20 pixels a cell.
  const map = mapOf([4, 6], (row, column) => 10 * row + column);
  assert.deepEqual(map.window.map((side) => Math.round(1e6 * side) / 1e6), [40, 10, 160, 90]);
  const clip = (value: number, most: number) => Math.min(Math.max(value, 0), most);
  for (const [height, width] of [[100, 200], [50, 100], [151, 302]] as const) {
    const { mask } = heatPicture(map, 0, [height, width]);
    let looked = 0;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const [down, right] = [((y + 0.5) * 100) / height, ((x + 0.5) * 200) / width];
        const isInside = down > 10 && down < 90 && right > 40 && right < 160;
        const row = clip((down - 10) / 20 - 0.5, 3);
        const column = clip((right - 40) / 20 - 0.5, 5);
        const wanted = isInside ? 1 + (254 * (10 * row + column)) / 35 : 0;
        assert.ok(Math.abs(mask[y * width + x]! - wanted) <= 0.51, `${y}, ${x}`);
        looked += Number(isInside);
      }
    }
    assert.ok(Math.abs(looked / (height * width) - 0.48) < 0.01);
  }
});

test("one cell is everywhere, and no heat nowhere", () => {
  const one = heatPicture({ ...mapOf([1, 1], () => 3), window: [0, 0, 200, 100] }, 0, [5, 7]);
  assert.deepEqual([...new Set(one.mask)], [255]);
  const none = heatPicture({ ...mapOf([2, 2], () => 0), window: [0, 0, 200, 100] }, 0, [5, 7]);
  assert.deepEqual([...new Set(none.mask)], [1]);
});

test("colours of the table that Python reads too", () => {
  const table = new URL("../../../tests/data/palette_cases.json", import.meta.url);
  const { heat } = JSON.parse(readFileSync(table, "utf8")) as { heat: Record<string, number[]> };
  for (const [part, colour] of Object.entries(heat)) assert.deepEqual(heatColour(Number(part) / 255), colour);
  const colours = heatColours();
  assert.deepEqual([...colours.subarray(4, 8)], [255, 0, 0, 0], "no heat is not seen");
  assert.deepEqual([...colours.subarray(4 * 255)], [255, 255, 0, 255]);
  // With 0.7 of it Python leaves 0.4 of the picture there.
  assert.ok(Math.abs((colours[3]! / 255) * 0.7 - 0.6) < 0.002);
});
