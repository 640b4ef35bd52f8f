/** SSD's anchors, boxes relative to them, and which of boxes that lie on each other stay. */
import type { Box, Size } from "./geometry";

/** How a detector's file gives boxes; the exporter writes it into the file. */
export interface Decoding {
  /** "yxhw": middle's y and x, height and width. */
  format: string;
  /** Units of these four numbers. */
  variance: readonly number[];
  /** Side of the small squares of the first map, and of those of a map after the last. */
  min_scale: number;
  max_scale: number;
  /** Pixels of the image for each cell of the maps; after them comes one of a single cell. */
  strides: readonly number[];
  /** For each map how much longer than high its oblong anchors are, or higher. */
  aspect_ratios: readonly (readonly number[])[];
  /** "sides": what is longer than the image is as long as the image. */
  clip: string;
  num_anchors: number;
}

/** A box of a class. */
export interface Scored {
  /** In sides of the image. */
  box: Box;
  index: number;
  score: number;
}

/** The most boxes of each class that stay. */
const MAXIMUM = 200;
const SMALLEST_AREA = 1e-12;

/**
 * The anchors, map after map, cell after cell: middle's x and y, width and height of each, in sides
 * of the image.
 *
 * @param size Height and width of the model's input.
 */
export function makeAnchors(decoding: Decoding, [height, width]: Size): Float32Array {
  const { strides, aspect_ratios: ratios, min_scale: smallest, max_scale: largest } = decoding;
  const maps: Size[] = strides.map((stride) => [Math.ceil(height / stride), Math.ceil(width / stride)]);
  maps.push([1, 1]);
  const scaleOf = (level: number) => smallest + ((largest - smallest) * level) / maps.length;
  const anchors: number[] = [];
  maps.forEach(([rows, columns], level) => {
    const scale = scaleOf(level);
    const larger = Math.sqrt(scale * scaleOf(level + 1));
    const shapes = [[scale, scale], [larger, larger]];
    for (const ratio of ratios[level]!) {
      const root = Math.sqrt(ratio);
      shapes.push([scale * root, scale / root], [scale / root, scale * root]);
    }
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        for (const [across, down] of shapes as [number, number][]) {
          // The middles stay where they are.
          const sides = [Math.min(across, 1), Math.min(down, 1)];
          anchors.push((column + 0.5) / columns, (row + 0.5) / rows, ...sides);
        }
      }
    }
  });
  return Float32Array.from(anchors);
}

/**
 * The box of an anchor, in sides of the image, not cut at its edges.
 *
 * @param location Four numbers of each anchor, as the file gives them.
 * @param anchors See `makeAnchors`.
 * @param at The anchor's number.
 */
export function decodeBox(
  location: Float32Array,
  anchors: Float32Array,
  variance: readonly number[],
  at: number,
): Box {
  const [across, down] = [anchors[4 * at + 2]!, anchors[4 * at + 3]!];
  const y = location[4 * at]! * variance[0]! * down + anchors[4 * at + 1]!;
  const x = location[4 * at + 1]! * variance[1]! * across + anchors[4 * at]!;
  const halfHeight = (Math.exp(location[4 * at + 2]! * variance[2]!) * down) / 2;
  const halfWidth = (Math.exp(location[4 * at + 3]! * variance[3]!) * across) / 2;
  return [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight];
}

/**
 * Non-maximum suppression, each class by itself as in the paper: the boxes that stay, the surest
 * first. A higher threshold leaves the first of them: it needs no other run.
 *
 * @param boxOf Gives an anchor's box; asked for those alone that are sure enough.
 * @param scores Of every class of every anchor.
 * @param count Classes.
 * @param scoreThreshold What a score must be above.
 * @param overlap Intersection over union above which the less sure box goes.
 */
export function suppress(
  boxOf: (anchor: number) => Box,
  scores: Float32Array,
  count: number,
  scoreThreshold: number,
  overlap = 0.5,
): Scored[] {
  const sure: number[] = [];
  for (let at = 0; at < scores.length; at++) if (scores[at]! > scoreThreshold) sure.push(at);
  // Of equal scores the first box's.
  sure.sort((a, b) => scores[b]! - scores[a]!);
  const boxes = new Map<number, Box>();
  const kept = Array.from({ length: count }, () => [] as Box[]);
  const found: Scored[] = [];
  for (const at of sure) {
    const index = at % count;
    const others = kept[index]!;
    if (others.length === MAXIMUM) continue;
    const anchor = (at - index) / count;
    let box = boxes.get(anchor);
    if (!box) boxes.set(anchor, (box = boxOf(anchor)));
    if (others.some((other) => overlaps(box, other) > overlap)) continue;
    others.push(box);
    found.push({ box, index, score: scores[at]! });
  }
  return found;
}

/** Intersection over union of two boxes; 0 of boxes without area. */
export function overlaps(one: Box, other: Box): number {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  const areas = areaOf(one) + areaOf(other);
  return shared / Math.max(areas - shared, SMALLEST_AREA);
}

function areaOf([left, top, right, bottom]: Box): number {
  return (right - left) * (bottom - top);
}
