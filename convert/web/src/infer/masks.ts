/** From maps of logits to masks of class numbers. */
import type { Size } from "./geometry";
import { linearSamples } from "./preprocess";

/** Pixels of an axis that lie between the same two cells. */
interface Run {
  from: number;
  to: number;
  before: number;
  after: number;
}

/** Splits an axis of `length` pixels where the cells beside them change. */
function runsOf(index: Int32Array, length: number): Run[] {
  const runs: Run[] = [];
  for (let at = 0; at < length; at++) {
    const [before, after] = [index[2 * at]!, index[2 * at + 1]!];
    const last = runs.at(-1);
    if (last && last.before === before && last.after === after) last.to = at + 1;
    else runs.push({ from: at, to: at + 1, before, after });
  }
  return runs;
}

/** Whether a class's logit is larger than another's at every corner; of equal ones the first's. */
function leads(
  logits: Float32Array,
  corners: readonly number[],
  leader: number,
  other: number,
): boolean {
  for (const corner of corners) {
    const lead = logits[corner + leader]! - logits[corner + other]!;
    if (lead < 0 || (lead === 0 && leader > other)) return false;
  }
  return true;
}

/** Where the largest of a cell's logits stands; of equal ones the first. */
function bestOf(logits: Float32Array, cell: number, count: number): number {
  let best = 0;
  for (let at = 1; at < count; at++) {
    if (logits[cell + at]! > logits[cell + best]!) best = at;
  }
  return best;
}

/**
 * Which classes may be the best somewhere between four cells, in their order.
 *
 * What lies below another class at all four lies below it everywhere between them: most of an image
 * has one class left, so that nothing need be computed for its pixels.
 */
function candidates(logits: Float32Array, corners: readonly number[], count: number): number[] {
  const leaders = [...new Set(corners.map((corner) => bestOf(logits, corner, count)))];
  if (leaders.length === 1) return leaders;
  const found: number[] = [];
  for (let number = 0; number < count; number++) {
    const isBeaten = leaders.some((leader) => leader !== number && leads(logits, corners, leader, number));
    if (!isBeaten) found.push(number);
  }
  return found;
}

/**
 * The class of every pixel: whose logit is the largest, enlarged bilinearly by half-pixel centres.
 *
 * @param logits Of `cells` and `count` classes, class after class, cell after cell.
 * @param cells Height and width of the map, which covers the whole of the image.
 * @param count Classes, at most 256.
 * @param size Height and width of the mask.
 * @returns One number a pixel, row by row. Of equal logits the first class's.
 */
export function classMask(logits: Float32Array, cells: Size, count: number, size: Size): Uint8Array<ArrayBuffer> {
  const [height, width] = size;
  const rows = linearSamples(cells[0], height);
  const columns = linearSamples(cells[1], width);
  const mask = new Uint8Array(height * width);
  const across = runsOf(columns.index, width);
  // Of each class that is left: its logit at the left of a run, and what it gains to the right.
  const left = new Float64Array(count);
  const step = new Float64Array(count);
  for (const down of runsOf(rows.index, height)) {
    for (const run of across) {
      const corners = [down.before, down.after].flatMap((row) =>
        [run.before, run.after].map((column) => (row * cells[1] + column) * count),
      );
      const classes = candidates(logits, corners, count);
      const first = classes[0]!;
      if (classes.length === 1) {
        for (let y = down.from; y < down.to; y++) {
          mask.fill(first, y * width + run.from, y * width + run.to);
        }
        continue;
      }
      const [topLeft, topRight, bottomLeft, bottomRight] = corners as [number, number, number, number];
      const numLeft = classes.length;
      for (let y = down.from; y < down.to; y++) {
        const part = rows.weight[2 * y + 1]!;
        for (let at = 0; at < numLeft; at++) {
          const number = classes[at]!;
          const top = logits[topLeft + number]!;
          const end = logits[topRight + number]!;
          left[at] = top + (logits[bottomLeft + number]! - top) * part;
          step[at] = end + (logits[bottomRight + number]! - end) * part - left[at]!;
        }
        for (let x = run.from; x < run.to; x++) {
          const share = columns.weight[2 * x + 1]!;
          let best = 0;
          let largest = left[0]! + step[0]! * share;
          for (let at = 1; at < numLeft; at++) {
            const value = left[at]! + step[at]! * share;
            if (value > largest) {
              largest = value;
              best = at;
            }
          }
          mask[y * width + x] = classes[best]!;
        }
      }
    }
  }
  return mask;
}
