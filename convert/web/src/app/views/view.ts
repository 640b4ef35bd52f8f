/** What differs between tasks on the page: one of these for each. */
import type { Answers, TaskName } from "../protocol";
import type { Overlay } from "../stage/overlay";

/** A slider under the picture. */
export interface Control {
  readonly label: string;
  /** In percent. */
  value: number;
  /** Of what can be switched off: whether it is on. */
  isOn?: boolean;
}

export interface View<Task extends TaskName> {
  /** Changes what is drawn without another run of the model. */
  readonly control?: Control;
  /** Whether the control is of use for an answer; it is where this is absent. */
  isSettable?(found: Answers[Task]): boolean;
  /** What is shown of a video's frame after another one: what flickers is smoothed. */
  blend?(previous: Answers[Task], found: Answers[Task]): Answers[Task];
  /** Shows an answer in a card; one shown there before is updated, so that its buttons stay. */
  show(body: HTMLElement, found: Answers[Task]): void;
  /** What stands on the picture; nothing where the drawing says it all. */
  headline(found: Answers[Task]): (Node | string)[];
  /** What a screen reader says. */
  summary(found: Answers[Task]): string;
  /** What is copied. */
  words(found: Answers[Task]): string;
  /** Draws over the picture. */
  draw?(overlay: Overlay, found: Answers[Task]): void;
  /** Whether `draw` draws anything of an answer; it does where this is absent. */
  isDrawn?(found: Answers[Task]): boolean;
}
