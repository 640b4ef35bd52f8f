/** The evaluation pipeline's geometry: the table that Python and the device script read too. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { cropOffset, fitted, resizedSize, type Size } from "../src/infer/geometry";

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
