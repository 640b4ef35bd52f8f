/**
 * The evaluation pipeline's resize with its centre crop, in floating point on the decoded pixels.
 *
 * The browser's own scaling (canvas, `createImageBitmap`) filters differently from one browser to
 * the next, so none of it is used: the samples are those of `tf.image.resize` without antialiasing.
 */

import { placement, type Preprocessing, roundHalfEven, sidesOf, type Size } from "./geometry";

/** Decoded pixels, four bytes each: what `ImageData` holds. */
export interface Pixels {
  data: Uint8ClampedArray | Uint8Array;
  width: number;
  height: number;
}

/** Source indices and weights of each output sample along one axis, `taps` of each a sample. */
export interface AxisSamples {
  taps: number;
  index: Int32Array;
  weight: Float32Array;
}

/**
 * Where the samples of an axis lie between those of another length, by half-pixel centres.
 *
 * @param size Samples that there are.
 * @param resized Samples after the resize.
 * @param start The first of them that is wanted.
 * @param count How many are wanted.
 */
export function linearSamples(
  size: number,
  resized: number,
  start = 0,
  count: number = resized,
): AxisSamples {
  const scale = Math.fround(size / resized);
  const index = new Int32Array(2 * count);
  const weight = new Float32Array(2 * count);
  for (let i = 0; i < count; i++) {
    // Half-pixel centres, in single precision like TensorFlow's kernel.
    const at = Math.fround(Math.fround(Math.fround(start + i + 0.5) * scale) - 0.5);
    const lower = Math.floor(at);
    const fraction = Math.fround(at - lower);
    index[2 * i] = Math.max(lower, 0);
    index[2 * i + 1] = Math.min(Math.ceil(at), size - 1);
    weight[2 * i] = 1 - fraction;
    weight[2 * i + 1] = fraction;
  }
  return { taps: 2, index, weight };
}

/** Keys's cubic with a = -0.5, TensorFlow's choice with half-pixel centres. */
function cubic(distance: number): number {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

function cubicSamples(size: number, resized: number, start: number, count: number): AxisSamples {
  const scale = size / resized;
  const index = new Int32Array(4 * count);
  const weight = new Float32Array(4 * count);
  for (let i = 0; i < count; i++) {
    const at = (start + i + 0.5) * scale - 0.5;
    const base = Math.floor(at);
    // TensorFlow reads the kernel from a table of 1024 steps.
    const fraction = roundHalfEven((at - base) * 1024) / 1024;
    let total = 0;
    for (let tap = 0; tap < 4; tap++) {
      const source = base + tap - 1;
      const inside = source >= 0 && source < size;
      const value = inside ? cubic(fraction - (tap - 1)) : 0;
      index[4 * i + tap] = Math.min(Math.max(source, 0), size - 1);
      weight[4 * i + tap] = value;
      total += value;
    }
    for (let tap = 0; tap < 4; tap++) weight[4 * i + tap]! /= total;
  }
  return { taps: 4, index, weight };
}

/**
 * Resizes the shorter side and cuts the centre, or stretches all of the image; drops alpha.
 *
 * @param pixels Decoded image of any size.
 * @param preprocessing The model's own, for this size; see `fitted`.
 * @param size Height and width of the result; those of `crop_size` by default.
 * @returns RGB, 0..255, row by row: `height * width * 3` numbers.
 */
export function preprocess(
  pixels: Pixels,
  preprocessing: Preprocessing,
  size: Size = sidesOf(preprocessing),
): Float32Array {
  const [height, width] = size;
  const { data } = pixels;
  const whole: Size = [pixels.height, pixels.width];
  const { resized, offset } = placement(whole, preprocessing, size);
  const samples = preprocessing.interpolation === "bicubic" ? cubicSamples : linearSamples;
  const [top, left] = offset;
  const rows = samples(pixels.height, resized[0], top, height);
  const columns = samples(pixels.width, resized[1], left, width);
  const output = new Float32Array(height * width * 3);
  const taps = rows.taps;
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let i = 0; i < taps; i++) {
        const row = rows.index[taps * y + i]! * pixels.width;
        const rowWeight = rows.weight[taps * y + i]!;
        for (let j = 0; j < taps; j++) {
          const pixel = 4 * (row + columns.index[taps * x + j]!);
          const weight = rowWeight * columns.weight[taps * x + j]!;
          red += weight * data[pixel]!;
          green += weight * data[pixel + 1]!;
          blue += weight * data[pixel + 2]!;
        }
      }
      // The cubic overshoots; the evaluation pipeline clips it.
      output[at++] = Math.min(Math.max(red, 0), 255);
      output[at++] = Math.min(Math.max(green, 0), 255);
      output[at++] = Math.min(Math.max(blue, 0), 255);
    }
  }
  return output;
}
