/** What differs between tasks: which outputs a file must have, and what they mean. */
import type { Description } from "../description";
import { InferError } from "../errors";
import type { Model, Parts } from "../model";
import type { Outputs } from "../runtimes";

export interface Task<Kind extends Model = Model> {
  /** Its name in descriptions. */
  readonly name: Kind["task"];
  /**
   * Checks a first run's outputs against the description.
   *
   * @throws InferError `wrong_task`.
   */
  check(outputs: Outputs, description: Description): void;
  open(parts: Parts): Kind;
}

/** An output by its name; a runtime may call a file's only output as it likes. */
export function outputNamed(outputs: Outputs, name: string): Float32Array {
  const values = Object.values(outputs);
  const found = outputs[name] ?? (values.length === 1 ? values[0] : undefined);
  if (found) return found;
  const names = Object.keys(outputs).join(", ");
  throw new InferError("wrong_task", `there must be an output "${name}". Received: ${names}.`);
}

/** An output's shape without its batch, as the description has it. */
export function shapeOf({ outputs = [] }: Description, name: string): readonly number[] {
  const shape = outputs.find((output) => output.name === name)?.shape;
  if (Array.isArray(shape)) return shape.slice(1);
  throw new InferError("wrong_task", `the description must have an output "${name}" with its shape`);
}

/**
 * Checks that an output has this many values, and that there are names for its classes.
 *
 * @throws InferError `wrong_task`.
 */
export function checkLength(
  outputs: Outputs,
  name: string,
  length: number,
  { class_names: names }: Description,
): void {
  const received = outputNamed(outputs, name).length;
  if (Array.isArray(names) && received === length) return;
  throw new InferError(
    "wrong_task",
    `"${name}" must have ${length} values for ${names?.length ?? 0} classes. Received: ${received}.`,
  );
}
