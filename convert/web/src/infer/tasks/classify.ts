/** Classification: one probability for each class. */
import type { ImageSource } from "../decode";
import { Model } from "../model";
import { checkLength, outputNamed, type Task } from "./task";

const OUTPUT = "probabilities";

/** One class of a prediction. */
export interface Prediction {
  index: number;
  label: string;
  probability: number;
}

/** Says what an image shows. */
export class Classifier extends Model {
  readonly task = "classification";

  /** All classes' probabilities for an image. */
  async probabilities(image: ImageSource): Promise<Float32Array> {
    const { outputs } = await this.look(image);
    return this.decoded(() => outputNamed(outputs, OUTPUT));
  }

  /** The `count` most probable classes, the best first. */
  async classify(image: ImageSource, count = 5): Promise<Prediction[]> {
    return best(await this.probabilities(image), this.labels, count);
  }
}

export const classification: Task<Classifier> = {
  name: "classification",
  check(outputs, description) {
    checkLength(outputs, OUTPUT, description.class_names?.length ?? 0, description);
  },
  open: (parts) => new Classifier(parts),
};

/** The `count` largest probabilities with their names, the largest first. */
export function best(
  probabilities: Float32Array,
  labels: readonly string[],
  count: number,
): Prediction[] {
  return Array.from(probabilities, (probability, index) => ({
    index,
    label: labels[index] ?? String(index),
    probability,
  }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, count);
}
