/** The table of tasks that this version can read. */
import { classification, type Classifier } from "./classify";
import { detection, type Detector } from "./detect";
import { segmentation, type Segmenter } from "./segment";
import type { Task } from "./task";

/** A loaded model of any task; its `task` tells them apart. */
export type AnyModel = Classifier | Detector | Segmenter;

/** Every task by its name in descriptions. */
export const TASKS: ReadonlyMap<string, Task<AnyModel>> = new Map(
  [classification, detection, segmentation].map((task) => [task.name, task as Task<AnyModel>]),
);
