/**
 * Which part of an image a model sees, and the way back: the evaluation pipeline's resize and
 * centred crop, or its stretch.
 *
 * Python, the device script and this file are tested with the same table of cases.
 */

/** How an image becomes a model's input; the exporter writes it into every file. */
export interface Preprocessing {
  /** Length in pixels, after the resize, that belongs to the crop's smaller side. */
  short_side: number;
  /** Side in pixels of the square cut from the centre, or its height and width. */
  crop_size: number | Size;
  interpolation: "bilinear" | "bicubic";
  /** "stretch" shows the model all of the image, whatever its aspect; "crop" where it is absent. */
  resize?: "crop" | "stretch";
}

/** Height and width. */
export type Size = readonly [number, number];

/** Left, top, right and bottom. */
export type Box = readonly [number, number, number, number];

/** Height and width of the part that a model sees. */
export function sidesOf({ crop_size: crop }: Preprocessing): Size {
  return typeof crop === "number" ? [crop, crop] : crop;
}

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
  if (preprocessing.resize === "stretch") return { ...preprocessing, short_side: side, crop_size: size };
  const crop = Math.min(...sidesOf(preprocessing));
  const scaled = Math.max(side, roundHalfEven((preprocessing.short_side * side) / crop));
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

/** Where a model's pixels come from: the image as it is resized, and the model's first pixel in it. */
export interface Placement {
  /** Height and width of the image as it is. */
  image: Size;
  resized: Size;
  /** Row and column. */
  offset: Size;
}

/**
 * How an image comes before a model.
 *
 * @param image Height and width.
 * @param preprocessing The model's own, for this size; see `fitted`.
 * @param size Height and width of the model's input.
 */
export function placement(image: Size, preprocessing: Preprocessing, size: Size): Placement {
  if (preprocessing.resize === "stretch") return { image, resized: size, offset: [0, 0] };
  const resized = resizedSize(image, preprocessing.short_side, size);
  return { image, resized, offset: cropOffset(resized, size) };
}

/** Moves a box from the pixels of the image to those of the model. */
export function toModel([left, top, right, bottom]: Box, { image, resized, offset }: Placement): Box {
  const y = (value: number) => (value * resized[0]) / image[0] - offset[0];
  const x = (value: number) => (value * resized[1]) / image[1] - offset[1];
  return [x(left), y(top), x(right), y(bottom)];
}

/** Moves a box from the pixels of the model to those of the image; see `toModel`. */
export function toImage([left, top, right, bottom]: Box, { image, resized, offset }: Placement): Box {
  const y = (value: number) => ((value + offset[0]) * image[0]) / resized[0];
  const x = (value: number) => ((value + offset[1]) * image[1]) / resized[1];
  return [x(left), y(top), x(right), y(bottom)];
}
