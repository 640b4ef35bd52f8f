/** Classification: one probability for each class, and perhaps where in the image it comes from. */
import type { ImageSource } from "../decode";
import type { Description } from "../description";
import { InferError } from "../errors";
import { placement, toImage } from "../geometry";
import type { HeatMap } from "../heat";
import { Model, type Look } from "../model";
import { checkLength, outputNamed, shapeOf, type Task } from "./task";

const OUTPUT = "probabilities";
const HEAT_MAP = "heat_map";

/** One class of a prediction. */
export interface Prediction {
  index: number;
  label: string;
  probability: number;
}

/** What an image shows, and where; the latter of files that were exported with it. */
export interface Classification {
  /** The best first. */
  predictions: Prediction[];
  heatMap?: HeatMap;
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

  /** The `count` most probable classes, and where in the image all of them are, if the file says it. */
  async explain(image: ImageSource, count = 5): Promise<Classification> {
    const look = await this.look(image);
    return this.decoded(() => {
      const predictions = best(outputNamed(look.outputs, OUTPUT), this.labels, count);
      return hasHeatMap(this.description) ? { predictions, heatMap: this.heatMap(look) } : { predictions };
    });
  }

  private heatMap({ outputs, image }: Look): HeatMap {
    const { size } = this.description;
    const [rows, columns, count] = shapeOf(this.description, HEAT_MAP) as [number, number, number];
    const place = placement(image, this.preprocessing, size);
    return {
      cells: [rows, columns],
      count,
      scores: Float32Array.from(outputNamed(outputs, HEAT_MAP)),
      window: toImage([0, 0, size[1], size[0]], place),
      image,
    };
  }
}

function hasHeatMap({ outputs = [] }: Description): boolean {
  return outputs.some(({ name }) => name === HEAT_MAP);
}

export const classification: Task<Classifier> = {
  name: "classification",
  check(outputs, description) {
    const count = description.class_names?.length ?? 0;
    checkLength(outputs, OUTPUT, count, description);
    if (!hasHeatMap(description)) return;
    const shape = shapeOf(description, HEAT_MAP);
    if (shape.length !== 3 || shape[2] !== count) {
      throw new InferError(
        "wrong_task",
        `"${HEAT_MAP}" must have a score of each class at each place. Received: ` +
          `${shape.join(" × ")} for ${count} classes.`,
      );
    }
    checkLength(outputs, HEAT_MAP, shape[0]! * shape[1]! * count, description);
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
