/** The classes of the pixels: colours over the picture, and a legend. */
import { classColour, type ClassShare, type Segmentation } from "../../infer";
import type { Overlay } from "../stage/overlay";
import { text } from "../text";
import { showRows, swatch } from "./class_rows";
import type { Control, View } from "./view";

/** Classes that are named on the picture, and to a screen reader. */
const NAMED = 3;
/** What is everywhere between the objects is not painted, unless somebody asks for it. */
const BACKGROUND = /^(_*background_*|bg)$/i;

export class SegmentationView implements View<"segmentation"> {
  readonly control: Control = { label: text.opacity, value: 55 };
  /** Classes that somebody has switched, by number: whether they are painted. */
  private readonly switched = new Map<number, boolean>();

  /** @param changed Called where an answer is to be drawn anew. */
  constructor(private readonly changed: () => void) {}

  show(body: HTMLElement, { classes }: Segmentation): void {
    const labels = new Map(classes.map(({ index, label }) => [index, label]));
    const rows = classes.map(({ index, label, share }) => ({
      index,
      label,
      colour: classColour(index),
      part: share,
      value: text.share(share),
    }));
    const isOn = (index: number) => this.isOn(index, labels.get(index) ?? "");
    showRows(body, rows, isOn, (index) => {
      this.switched.set(index, !isOn(index));
      this.changed();
    });
  }

  headline({ classes }: Segmentation): (Node | string)[] {
    const painted = classes.filter(({ index, label }) => this.isOn(index, label));
    return painted
      .slice(0, NAMED)
      .map(({ index, label }) => {
        const chip = document.createElement("span");
        chip.className = "chip";
        chip.append(swatch(classColour(index)), label);
        return chip;
      });
  }

  summary({ classes }: Segmentation): string {
    return named(classes.slice(0, NAMED));
  }

  words({ classes }: Segmentation): string {
    return named(classes);
  }

  draw(overlay: Overlay, found: Segmentation): void {
    const colours = new Uint8Array(4 * 256);
    for (const { index, label } of found.classes) {
      const opacity = this.isOn(index, label) ? 255 : 0;
      colours.set([...classColour(index), opacity], 4 * index);
    }
    overlay.showMask(found, colours, this.control.value / 100);
  }

  private isOn(index: number, label: string): boolean {
    return this.switched.get(index) ?? !BACKGROUND.test(label);
  }
}

function named(classes: readonly ClassShare[]): string {
  return classes.map(({ label, share }) => `${label} ${text.share(share)}`).join(", ");
}
