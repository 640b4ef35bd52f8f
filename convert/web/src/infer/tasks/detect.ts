/** Detection: objects and the boxes around them. */
import { type Decoding, decodeBox, makeAnchors, type Scored, suppress } from "../boxes";
import type { ImageSource } from "../decode";
import type { Description } from "../description";
import { InferError } from "../errors";
import type { Box, Size } from "../geometry";
import { Model, type Parts } from "../model";
import type { Outputs } from "../runtimes";
import { checkLength, outputNamed, shapeOf, type Task } from "./task";

const LOCATION = "location";
const SCORE = "score";
const CATEGORY = "category";
const NUMBER = "number of detections";

/** A description's `suppression` where the file leaves only boxes that stay; "runtime" otherwise. */
const IN_FILE = "in-file";

/** An object in an image. */
export interface FoundObject {
  /** Left, top, right and bottom in pixels of the image, cut at its edges. */
  box: Box;
  index: number;
  label: string;
  /** Probability of its class. */
  score: number;
}

/** What is where in an image. */
export interface Detection {
  /** The image's. */
  width: number;
  height: number;
  /** The surest first. */
  objects: FoundObject[];
}

/** Says what is where. */
export class Detector extends Model {
  readonly task = "detection";
  private readonly anchors: Float32Array | undefined;

  constructor(parts: Parts) {
    // All of an image is looked at, whatever a crop would cut off.
    super(parts, "stretch");
    const { description } = parts;
    this.anchors = isInFile(description) ? undefined : makeAnchors(decodingOf(description), description.size);
  }

  /**
   * The objects of an image. Of boxes of one class that lie on each other the surest stays.
   *
   * @param score What an object's score must be above.
   */
  async detect(image: ImageSource, score = 0.3): Promise<Detection> {
    const look = await this.look(image);
    const [height, width] = look.image;
    return this.decoded(() => ({
      width,
      height,
      objects: this.found(look.outputs, score).map(({ box, index, score: sureness }) => ({
        box: inPixels(box, look.image),
        index,
        label: this.labels[index] ?? String(index),
        score: sureness,
      })),
    }));
  }

  private found(outputs: Outputs, threshold: number): Scored[] {
    const location = outputNamed(outputs, LOCATION);
    const scores = outputNamed(outputs, SCORE);
    const { anchors } = this;
    if (!anchors) return suppressedInFile(outputs, location, scores, threshold);
    const { variance } = decodingOf(this.description);
    const boxOf = (anchor: number) => decodeBox(location, anchors, variance, anchor);
    return suppress(boxOf, scores, this.labels.length, threshold);
  }
}

/** The boxes of a file that decodes and suppresses by itself. */
function suppressedInFile(
  outputs: Outputs,
  location: Float32Array,
  scores: Float32Array,
  threshold: number,
): Scored[] {
  const categories = outputNamed(outputs, CATEGORY);
  const count = Math.round(outputNamed(outputs, NUMBER)[0] ?? 0);
  const found: Scored[] = [];
  for (let at = 0; at < count; at++) {
    const [top, left, bottom, right] = location.subarray(4 * at, 4 * at + 4) as unknown as Box;
    const score = scores[at]!;
    if (score > threshold) {
      found.push({ box: [left, top, right, bottom], index: Math.round(categories[at]!), score });
    }
  }
  return found;
}

/** A box in pixels of the image, cut at its edges; the box is in sides of it. */
function inPixels(box: Box, [height, width]: Size): Box {
  const within = (value: number, side: number) => Math.min(Math.max(value * side, 0), side);
  const [left, top, right, bottom] = box;
  return [within(left, width), within(top, height), within(right, width), within(bottom, height)];
}

function isInFile({ suppression }: Description): boolean {
  return suppression === IN_FILE;
}

/**
 * How the file says that boxes are read.
 *
 * @throws InferError `wrong_task` where this version knows no such rule.
 */
function decodingOf({ decoding }: Description): Decoding {
  const found = (decoding ?? {}) as Partial<Decoding>;
  const numbers = [found.min_scale, found.max_scale, found.num_anchors, ...(found.variance ?? [])];
  const isKnown =
    found.format === "yxhw" &&
    found.clip === "sides" &&
    numbers.length === 7 &&
    numbers.every((number) => typeof number === "number") &&
    found.aspect_ratios?.length === (found.strides?.length ?? 0) + 1;
  if (isKnown) return found as Decoding;
  throw new InferError(
    "wrong_task",
    `boxes must be read by a rule that this version knows. Received: ${JSON.stringify(decoding)}.`,
  );
}

export const detection: Task<Detector> = {
  name: "detection",
  check(outputs, description) {
    const [count = 0] = shapeOf(description, LOCATION);
    checkLength(outputs, LOCATION, 4 * count, description);
    if (isInFile(description)) {
      checkLength(outputs, SCORE, count, description);
      checkLength(outputs, CATEGORY, count, description);
      checkLength(outputs, NUMBER, 1, description);
      return;
    }
    checkLength(outputs, SCORE, count * (description.class_names?.length ?? 0), description);
    const anchors = makeAnchors(decodingOf(description), description.size).length / 4;
    if (anchors !== count) {
      throw new InferError(
        "wrong_task",
        `there must be a box for each of the ${anchors} anchors. Received: ${count}.`,
      );
    }
  },
  open: (parts) => new Detector(parts),
};
