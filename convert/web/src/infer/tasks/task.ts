/** What differs between tasks: which outputs a file must have, and what they mean. */
import type { Description } from "../description";
import { InferError } from "../errors";
import type { Outputs } from "../runtimes";

export interface Task<Answer> {
  /** Its name in descriptions. */
  readonly name: string;
  /**
   * Checks a first run's outputs against the description.
   *
   * @throws InferError `wrong_task`.
   */
  check(outputs: Outputs, description: Description): void;
  /** What the outputs say of an image. */
  decode(outputs: Outputs, description: Description): Answer;
}

/** An output by its name; a runtime may call a file's only output as it likes. */
export function outputNamed(outputs: Outputs, name: string): Float32Array {
  const values = Object.values(outputs);
  const found = outputs[name] ?? (values.length === 1 ? values[0] : undefined);
  if (found) return found;
  const names = Object.keys(outputs).join(", ");
  throw new InferError("wrong_task", `there must be an output "${name}". Received: ${names}.`);
}
