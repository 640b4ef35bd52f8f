/** The table of views, one for each task. */
import type { Answer, TaskName } from "../protocol";
import { ClassificationView } from "./classification";
import { DetectionView } from "./detection";
import { SegmentationView } from "./segmentation";
import type { View } from "./view";

type Views = { readonly [Task in TaskName]: View<Task> };

/** @param changed Called where an answer is to be drawn anew. */
export function makeViews(changed: () => void): Views {
  return {
    classification: new ClassificationView(changed),
    detection: new DetectionView(changed),
    segmentation: new SegmentationView(changed),
  };
}

/** The view for an answer: of the same task, which the types of a table cannot say. */
export function viewOf<Task extends TaskName>(views: Views, { task }: Answer<Task>): View<Task> {
  return views[task] as unknown as View<Task>;
}
