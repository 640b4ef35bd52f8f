/** How far two answers to one image say the same. */
import type { Box, Classification, Detection, FoundObject, Segmentation } from "../infer";
import type { Answer } from "./protocol";

/** Runtimes may round: by so much of a probability or score. */
const TOLERANCE = 1e-2;
/** The part of the pixels, or the overlap of boxes, that one file's runtimes must have in common. */
const SAME_PIXELS = 0.99;
const SAME_BOX = 0.95;
/** Boxes of two models that overlap so are of one object. */
const SAME_OBJECT = 0.5;
/** Objects that are surer than this count: what the page shows at first. */
const SURE = 0.3;

/** Whether two runtimes give one file's answer. */
export function isSame(first: Answer, other: Answer): boolean {
  if (first.task === "classification" && other.task === first.task) {
    return sameShares(first.found, other.found);
  }
  if (first.task === "segmentation" && other.task === first.task) {
    return samePixels(first.found, other.found) >= SAME_PIXELS;
  }
  if (first.task !== "detection" || other.task !== first.task) return false;
  // What one finds just above the line may lie just below it for the other.
  const isFound = (object: FoundObject, { objects }: Detection) =>
    objects.some(
      (found) =>
        Math.abs(found.score - object.score) <= TOLERANCE && isOneObject(found, object, SAME_BOX),
    );
  return (
    sure(first.found).every((object) => isFound(object, other.found)) &&
    sure(other.found).every((object) => isFound(object, first.found))
  );
}

/**
 * The part of what two models say of an image that they agree in: of classes all or nothing, of
 * pixels and of objects their share. Null where they are asked for different things.
 */
export function agreement(first: Answer, other: Answer): number | null {
  if (first.task === "classification" && other.task === first.task) {
    const [a, b] = [first.found.predictions[0], other.found.predictions[0]];
    return a?.label === b?.label ? 1 : 0;
  }
  if (first.task === "segmentation" && other.task === first.task) {
    return samePixels(first.found, other.found);
  }
  if (first.task !== "detection" || other.task !== first.task) return null;
  const left = sure(other.found);
  const count = sure(first.found).length + left.length;
  let matched = 0;
  for (const object of sure(first.found)) {
    const at = left.findIndex((found) => isOneObject(found, object));
    if (at < 0) continue;
    left.splice(at, 1);
    matched += 2;
  }
  return count === 0 ? 1 : matched / count;
}

function sameShares(first: Classification, other: Classification): boolean {
  const known = new Map(other.predictions.map(({ index, probability }) => [index, probability]));
  // A class that is not among the best has at most the least of them.
  const least = other.predictions.at(-1)?.probability ?? 0;
  return first.predictions.every(({ index, probability }) => {
    const found = known.get(index) ?? Math.min(least, probability);
    return Math.abs(found - probability) <= TOLERANCE;
  });
}

/** The part of the pixels of equal pictures that have one class by name. */
function samePixels(first: Segmentation, other: Segmentation): number {
  if (first.mask.length !== other.mask.length) return 0;
  const numbers = new Map(other.classes.map(({ index, label }) => [label, index]));
  const wanted = new Int32Array(256).fill(-1);
  for (const { index, label } of first.classes) wanted[index] = numbers.get(label) ?? -1;
  let count = 0;
  for (let at = 0; at < first.mask.length; at++) {
    if (wanted[first.mask[at]!] === other.mask[at]) count++;
  }
  return count / first.mask.length;
}

function sure({ objects }: Detection): FoundObject[] {
  return objects.filter(({ score }) => score >= SURE);
}

/** Whether two boxes are of one object: of one class, and with so much of them in common. */
export function isOneObject(a: FoundObject, b: FoundObject, least = SAME_OBJECT): boolean {
  return a.label === b.label && overlap(a.box, b.box) >= least;
}

/** Intersection over union. */
function overlap(a: Box, b: Box): number {
  const side = (from: number, to: number) =>
    Math.max(0, Math.min(a[to]!, b[to]!) - Math.max(a[from]!, b[from]!));
  const area = ([left, top, right, bottom]: Box) => (right - left) * (bottom - top);
  const shared = side(0, 2) * side(1, 3);
  return shared / (area(a) + area(b) - shared);
}
