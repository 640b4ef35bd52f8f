/** Where in an image a classifier's answer comes from: from scores at places to pictures. */
import type { Box, Size } from "./geometry";
import type { Colour } from "./palette";

/** The score of each class at each place that a model sees; the logits are their mean. */
export interface HeatMap {
  /** Height and width. */
  readonly cells: Size;
  readonly count: number;
  /** Class after class, cell after cell. */
  readonly scores: Float32Array<ArrayBuffer>;
  /** Left, top, right and bottom of what the cells cover, in pixels of the image. */
  readonly window: Box;
  /** Height and width of the image. */
  readonly image: Size;
}

/** A number for each pixel, row by row: 0 where the model does not look, else 1 to 255. */
export interface HeatPicture {
  readonly width: number;
  readonly height: number;
  readonly mask: Uint8Array<ArrayBuffer>;
}

/** What the model does not see is as dark as in Python's pictures, which have 0.7 of all colours. */
const DARKNESS = 219;

/**
 * How much of a class there is in each cell: by how much its score is above the mean of all classes'
 * there, which is what softmax sees of it, over the most of it in the image. Never below 0.
 */
export function heatOf({ cells, count, scores }: HeatMap, index: number): Float32Array {
  const heat = new Float32Array(cells[0] * cells[1]);
  let most = 0;
  for (let cell = 0; cell < heat.length; cell++) {
    let sum = 0;
    for (let at = 0; at < count; at++) sum += scores[cell * count + at]!;
    heat[cell] = Math.max(0, scores[cell * count + index]! - sum / count);
    most = Math.max(most, heat[cell]!);
  }
  return most > 0 ? heat.map((value) => value / most) : heat;
}

/**
 * A class's heat at each pixel, bilinear between the cells' middles.
 *
 * @param size Height and width of the picture, which shows all of the image.
 */
export function heatPicture(map: HeatMap, index: number, [height, width]: Size): HeatPicture {
  const heat = heatOf(map, index);
  const [left, top, right, bottom] = map.window;
  const rows = placesOf(height, map.image[0], top, bottom, map.cells[0]);
  const columns = placesOf(width, map.image[1], left, right, map.cells[1]);
  const mask = new Uint8Array(height * width);
  for (const [y, row] of rows.entries()) {
    if (!row) continue;
    const above = row.before * map.cells[1];
    const below = row.after * map.cells[1];
    for (const [x, column] of columns.entries()) {
      if (!column) continue;
      const { before, after, part } = column;
      const upper = heat[above + before]! + (heat[above + after]! - heat[above + before]!) * part;
      const lower = heat[below + before]! + (heat[below + after]! - heat[below + before]!) * part;
      mask[y * width + x] = 1 + Math.round(254 * (upper + (lower - upper) * row.part));
    }
  }
  return { width, height, mask };
}

interface Place {
  before: number;
  after: number;
  part: number;
}

/** Between which cells each pixel's middle lies along an axis; undefined where there are none. */
function placesOf(length: number, side: number, from: number, to: number, cells: number): (Place | undefined)[] {
  return Array.from({ length }, (_, pixel) => {
    const at = (((pixel + 0.5) * side) / length - from) / (to - from);
    if (at <= 0 || at >= 1) return undefined;
    const place = Math.min(Math.max(at * cells - 0.5, 0), cells - 1);
    const before = Math.floor(place);
    return { before, after: Math.min(before + 1, cells - 1), part: place - before };
  });
}

/** The colour of a part of the most heat, 0 to 1: from red to yellow, as Python draws it. */
export function heatColour(part: number): Colour {
  return [255, Math.round(255 * part), 0];
}

/** Red, green, blue and opacity of each of a picture's 256 numbers. */
export function heatColours(): Uint8Array {
  const colours = new Uint8Array(4 * 256);
  colours[3] = DARKNESS;
  for (let number = 1; number < 256; number++) {
    const part = (number - 1) / 254;
    colours.set([...heatColour(part), Math.round(255 * part)], 4 * number);
  }
  return colours;
}
