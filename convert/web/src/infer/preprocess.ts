/**
 * The evaluation pipeline's resize and centre crop, in floating point on the decoded pixels.
 *
 * The browser's own scaling (canvas, `createImageBitmap`) filters differently from one browser to
 * the next, so none of it is used: the samples are those of `tf.image.resize` without antialiasing.
 */

/** How an image becomes a model's input; written into every report by the exporter. */
export interface Preprocessing {
  /** Length in pixels of the image's shorter side after the resize. */
  short_side: number;
  /** Side in pixels of the square cut from the centre. */
  crop_size: number;
  interpolation: "bilinear" | "bicubic";
}

/** Decoded pixels, four bytes each: what `ImageData` holds. */
export interface Pixels {
  data: Uint8ClampedArray | Uint8Array;
  width: number;
  height: number;
}

/** Source indices and weights of each output sample along one axis, `taps` of each a sample. */
interface AxisSamples {
  taps: number;
  index: Int32Array;
  weight: Float32Array;
}

/** The nearest whole number; halves go to the even neighbour, as in C's `lrintf`. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Height and width after the shorter side is resized to `shortSide`; the longer one is floored. */
export function resizedSize(height: number, width: number, shortSide: number): [number, number] {
  const shorter = Math.min(height, width);
  return [
    Math.floor((height * shortSide) / shorter),
    Math.floor((width * shortSide) / shorter),
  ];
}

function linearSamples(size: number, resized: number, start: number, count: number): AxisSamples {
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
 * The preprocessing for an input of this size, where the model was exported at another one than its
 * crop: the same part of the image, at the other resolution.
 */
export function fitted(preprocessing: Preprocessing, size: readonly [number, number]): Preprocessing {
  const side = Math.max(...size);
  const { short_side: shortSide, crop_size: crop } = preprocessing;
  if (side === crop) return preprocessing;
  const scaled = Math.max(side, roundHalfEven((shortSide * side) / crop));
  return { ...preprocessing, short_side: scaled, crop_size: side };
}

/**
 * Resizes the shorter side, cuts the centre and drops alpha.
 *
 * @param pixels Decoded image of any size.
 * @param preprocessing The model's own; `crop_size` at most `short_side`.
 * @param size Height and width of the cut; the square of `crop_size` by default.
 * @returns RGB, 0..255, row by row: `height * width * 3` numbers.
 */
export function preprocess(
  pixels: Pixels,
  preprocessing: Preprocessing,
  size: readonly [number, number] = [preprocessing.crop_size, preprocessing.crop_size],
): Float32Array {
  const [height, width] = size;
  const { data } = pixels;
  const [resizedHeight, resizedWidth] = resizedSize(
    pixels.height,
    pixels.width,
    preprocessing.short_side,
  );
  const samples = preprocessing.interpolation === "bicubic" ? cubicSamples : linearSamples;
  const top = Math.floor((resizedHeight - height) / 2);
  const left = Math.floor((resizedWidth - width) / 2);
  const rows = samples(pixels.height, resizedHeight, top, height);
  const columns = samples(pixels.width, resizedWidth, left, width);
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
