/** Segmentation: the class of every pixel. */
import type { ImageSource } from "../decode";
import { InferError } from "../errors";
import type { Size } from "../geometry";
import { classMask } from "../masks";
import { Model, type Parts } from "../model";
import { checkLength, outputNamed, shapeOf, type Task } from "./task";

const OUTPUT = "segmentation";
/** A mask holds a byte for each pixel. */
const MOST_CLASSES = 256;

/** A class that an image shows, and its share of the pixels. */
export interface ClassShare {
  index: number;
  label: string;
  share: number;
}

/** What every pixel of an image is. */
export interface Segmentation {
  width: number;
  height: number;
  /** The number of each pixel's class, row by row. */
  mask: Uint8Array<ArrayBuffer>;
  /** The classes that occur, the most frequent first. */
  classes: ClassShare[];
}

/** Says of which class every pixel is. */
export class Segmenter extends Model {
  readonly task = "segmentation";

  constructor(parts: Parts) {
    // All of an image has a mask, whatever a crop would cut off.
    super(parts, "stretch");
  }

  /**
   * The class of every pixel.
   *
   * @param size Height and width of the mask; the image's own by default.
   */
  async segment(image: ImageSource, size?: Size): Promise<Segmentation> {
    const look = await this.look(image);
    const [height, width] = size ?? look.image;
    return this.decoded(() => {
      const [rows, columns, count] = shapeOf(this.description, OUTPUT) as [number, number, number];
      const logits = outputNamed(look.outputs, OUTPUT);
      const mask = classMask(logits, [rows, columns], count, [height, width]);
      return { width, height, mask, classes: sharesOf(mask, this.labels) };
    });
  }
}

/** The classes that a mask holds with their shares, the most frequent first. */
export function sharesOf(mask: Uint8Array, labels: readonly string[]): ClassShare[] {
  const counts = new Uint32Array(MOST_CLASSES);
  for (let at = 0; at < mask.length; at++) counts[mask[at]!]!++;
  return Array.from(counts)
    .map((count, index) => ({ index, label: labels[index] ?? String(index), share: count / mask.length }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share);
}

export const segmentation: Task<Segmenter> = {
  name: "segmentation",
  check(outputs, description) {
    const shape = shapeOf(description, OUTPUT);
    const count = description.class_names?.length ?? 0;
    if (shape.length !== 3 || shape[2] !== count || count > MOST_CLASSES) {
      throw new InferError(
        "wrong_task",
        `"${OUTPUT}" must have logits of up to ${MOST_CLASSES} named classes. Received: ` +
          `${shape.join(" × ")} for ${count} names.`,
      );
    }
    checkLength(outputs, OUTPUT, shape[0]! * shape[1]! * count, description);
  },
  open: (parts) => new Segmenter(parts),
};
