/**
 * Which part of an image a model sees: the evaluation pipeline's resize and centred crop.
 *
 * Python, the device script and this file are tested with the same table of cases.
 */

/** How an image becomes a model's input; the exporter writes it into every file. */
export interface Preprocessing {
  /** Length in pixels, after the resize, that belongs to the crop's smaller side. */
  short_side: number;
  /** Side in pixels of the square cut from the centre. */
  crop_size: number;
  interpolation: "bilinear" | "bicubic";
}

/** Height and width. */
export type Size = readonly [number, number];

/** The nearest whole number; halves go to the even neighbour, as in Python. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * The preprocessing for an input of this size, where the model was exported at another one than its
 * crop: the same part of the image, at the other resolution.
 */
export function fitted(preprocessing: Preprocessing, size: Size): Preprocessing {
  const side = Math.min(...size);
  const { short_side: shortSide, crop_size: crop } = preprocessing;
  const scaled = Math.max(side, roundHalfEven((shortSide * side) / crop));
  return { ...preprocessing, short_side: scaled, crop_size: side };
}

/**
 * The size of the resized image, which covers a box of the crop's own shape.
 *
 * @param image Height and width.
 * @param shortSide The box's smaller side.
 * @param crop Height and width of the crop.
 */
export function resizedSize([height, width]: Size, shortSide: number, crop: Size): [number, number] {
  const side = Math.min(...crop);
  const boxHeight = Math.floor((crop[0] * shortSide) / side);
  const boxWidth = Math.floor((crop[1] * shortSide) / side);
  return boxHeight * width >= boxWidth * height
    ? [boxHeight, Math.floor((width * boxHeight) / height)]
    : [Math.floor((height * boxWidth) / width), boxWidth];
}

/** Row and column of the centred crop's first pixel. */
export function cropOffset(resized: Size, crop: Size): [number, number] {
  return [Math.floor((resized[0] - crop[0]) / 2), Math.floor((resized[1] - crop[1]) / 2)];
}
