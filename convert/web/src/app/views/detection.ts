/** Objects: boxes over the picture, and a list of their classes. */
import { classColour, type Colour, type Detection, type FoundObject } from "../../infer";
import { isOneObject } from "../agreement";
import { make } from "../dom";
import type { Overlay } from "../stage/overlay";
import { text } from "../text";
import { type ClassRow, showRows } from "./class_rows";
import type { Control, View } from "./view";

/** What the latest frame's score counts beside those before it. */
const NEWS = 0.3;

export class DetectionView implements View<"detection"> {
  readonly control: Control = { label: text.scoreAtLeast, value: 30 };
  /** Classes that somebody has switched off, by number. */
  private readonly off = new Set<number>();

  /** @param changed Called where an answer is to be drawn anew. */
  constructor(private readonly changed: () => void) {}

  /** An object that is still there does not flicker about the threshold; its box is the latest one. */
  blend(previous: Detection, found: Detection): Detection {
    const left = [...previous.objects];
    const objects = found.objects.map((object) => {
      const at = left.findIndex((other) => isOneObject(other, object));
      if (at < 0) return object;
      const [before] = left.splice(at, 1);
      return { ...object, score: before!.score + NEWS * (object.score - before!.score) };
    });
    return { ...found, objects: objects.sort((a, b) => b.score - a.score) };
  }

  show(body: HTMLElement, found: Detection): void {
    const rows = rowsOf(this.sure(found));
    if (rows.length === 0) {
      body.replaceChildren(make("p", { class: "nothing" }, text.nothingFound(this.control.value)));
      return;
    }
    showRows(body, rows, (index) => !this.off.has(index), (index) => {
      if (!this.off.delete(index)) this.off.add(index);
      this.changed();
    });
  }

  headline(): string[] {
    return [];
  }

  summary(found: Detection): string {
    const rows = rowsOf(this.shown(found));
    if (rows.length === 0) return text.nothingFound(this.control.value);
    return rows.map(({ label, count }) => text.objects(label, count)).join(", ");
  }

  words(found: Detection): string {
    return this.shown(found)
      .map(({ label, score, box }) => text.object(label, text.percent(score), box.map(Math.round)))
      .join("; ");
  }

  draw(overlay: Overlay, found: Detection): void {
    const marks = this.shown(found).map(({ box, index, label, score }) => ({
      box,
      colour: colourOf(index),
      label: `${label} ${text.wholePercent(100 * score)}`,
    }));
    overlay.showBoxes(marks, [found.height, found.width]);
  }

  private sure({ objects }: Detection): FoundObject[] {
    return objects.filter(({ score }) => score >= this.control.value / 100);
  }

  private shown(found: Detection): FoundObject[] {
    return this.sure(found).filter(({ index }) => !this.off.has(index));
  }
}

/** The first colour is black, which shows on no photograph. */
function colourOf(index: number): Colour {
  return classColour(1 + (index % 255));
}

/** A row for each class, that of the surest object first. */
function rowsOf(objects: readonly FoundObject[]): (ClassRow & { count: number })[] {
  const rows = new Map<number, ClassRow & { count: number }>();
  for (const { index, label, score } of objects) {
    const count = (rows.get(index)?.count ?? 0) + 1;
    const best = rows.get(index)?.part ?? score;
    const value = text.objectCount(count, text.wholePercent(100 * best));
    rows.set(index, { index, label, colour: colourOf(index), part: best, value, count });
  }
  return [...rows.values()];
}
