/** The evaluation pipeline's geometry: the table that Python and the device script read too. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import {
  type Box,
  cropOffset,
  fitted,
  placement,
  type Preprocessing,
  resizedSize,
  type Size,
  toImage,
  toModel,
} from "../src/infer/geometry";
import { preprocess } from "../src/infer/preprocess";

interface Case {
  image: Size;
  short_side: number;
  crop: Size;
  resized: Size;
  offset: Size;
}

const TABLE = new URL("../../../tests/data/preprocessing_cases.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(TABLE, "utf8")) as { cases: Case[] };

test("every case of the table", () => {
  assert.ok(cases.length > 20);
  for (const { image, short_side: shortSide, crop, resized, offset } of cases) {
    const found = resizedSize(image, shortSide, crop);
    const words = JSON.stringify({ image, shortSide, crop });
    assert.deepEqual(found, resized, words);
    assert.deepEqual(cropOffset(found, crop), offset, words);
  }
});

test("another size sees the same part of the image", () => {
  const own = { short_side: 288, crop_size: 256, interpolation: "bilinear" } as const;
  assert.deepEqual(fitted(own, [256, 256]), own);
  assert.deepEqual(fitted(own, [192, 320]), { ...own, short_side: 216, crop_size: 192 });
  // Halves go to the even neighbour, as in Python: 292 * 32 / 256 = 36.5.
  assert.equal(fitted({ ...own, short_side: 292 }, [32, 32]).short_side, 36);
  assert.equal(fitted({ ...own, short_side: 256 }, [100, 100]).short_side, 100);
});

function close(found: Box, wanted: readonly number[], words: string): void {
  found.forEach((value, at) => assert.ok(Math.abs(value - wanted[at]!) < 1e-6, `${words}: ${found}`));
}

test("there and back", () => {
  for (const { image, short_side, crop, resized, offset } of cases) {
    const cropping: Preprocessing = { short_side, crop_size: Math.min(...crop), interpolation: "bilinear" };
    const place = placement(image, cropping, crop);
    const words = JSON.stringify(place);
    assert.deepEqual([place.resized, place.offset], [resized, offset], words);
    // What the model sees, in pixels of the image.
    const seen = toImage([0, 0, crop[1], crop[0]], place);
    const [down, across] = [image[0] / resized[0], image[1] / resized[1]];
    const end = [(offset[1] + crop[1]) * across, (offset[0] + crop[0]) * down];
    close(seen, [offset[1] * across, offset[0] * down, ...end], words);
    close(toModel(seen, place), [0, 0, crop[1], crop[0]], words);
    // A stretch shows the whole of it.
    const stretch = placement(image, { ...cropping, resize: "stretch" }, crop);
    close(toImage([0, 0, crop[1], crop[0]], stretch), [0, 0, image[1], image[0]], words);
  }
});

test("a stretch at another size, and a crop of two sides", () => {
  const own: Preprocessing = { short_side: 64, crop_size: [64, 96], interpolation: "bilinear", resize: "stretch" };
  assert.deepEqual(fitted(own, [32, 40]), { ...own, short_side: 32, crop_size: [32, 40] });
  const crop: Preprocessing = { short_side: 72, crop_size: [64, 96], interpolation: "bilinear" };
  assert.deepEqual(fitted(crop, [32, 48]), { ...crop, short_side: 36, crop_size: 32 });
});

test("a stretched image is seen whole", () => {
  // Two columns, black and white, become four: half-pixel centres.
  const data = Uint8Array.of(0, 0, 0, 255, 200, 200, 200, 255);
  const own: Preprocessing = { short_side: 1, crop_size: [1, 4], interpolation: "bilinear", resize: "stretch" };
  const found = preprocess({ data, width: 2, height: 1 }, own);
  assert.deepEqual([...found].filter((_, at) => at % 3 === 0), [0, 50, 150, 200]);
});
