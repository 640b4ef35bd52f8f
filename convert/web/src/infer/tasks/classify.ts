/** Classification: one probability for each class. */
import { InferError } from "../errors";
import { outputNamed, type Task } from "./task";

const OUTPUT = "probabilities";

/** One class of a prediction. */
export interface Prediction {
  index: number;
  label: string;
  probability: number;
}

export const classification: Task<Float32Array> = {
  name: "classification",
  check(outputs, description) {
    const count = outputNamed(outputs, OUTPUT).length;
    const names = description.class_names;
    if (!Array.isArray(names) || count !== names.length) {
      throw new InferError(
        "wrong_task",
        `there must be a probability for each of the ${names?.length ?? 0} classes. Received: ${count} values.`,
      );
    }
  },
  decode: (outputs) => outputNamed(outputs, OUTPUT),
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
