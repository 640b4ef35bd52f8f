/** The most probable classes, with bars, and where they are. */
import { heatColours, heatPicture, type Prediction } from "../../infer";
import { make } from "../dom";
import type { Answers } from "../protocol";
import type { Overlay } from "../stage/overlay";
import { text } from "../text";
import type { Control, View } from "./view";

type Found = Answers["classification"];

const named = ({ label, probability }: Prediction) => `${label} ${text.percent(probability)}`;

/** What the latest frame counts beside those before it: half is forgotten within two frames. */
const NEWS = 0.3;
const SHOWN = 5;

export class ClassificationView implements View<"classification"> {
  readonly control: Control = { label: text.heatMap, value: 70, isOn: false };
  /** The class that somebody wants to see; the most probable one where it is none of those shown. */
  private wanted: string | undefined;

  /** @param changed Called where an answer is to be drawn anew. */
  constructor(private readonly changed: () => void) {}

  blend(previous: Found, found: Found): Found {
    const blended = new Map<number, Prediction>();
    // A class that is not among the best of a frame counts as nothing there.
    const add = (share: number) => (prediction: Prediction) => {
      const before = blended.get(prediction.index)?.probability ?? 0;
      const probability = before + share * prediction.probability;
      blended.set(prediction.index, { ...prediction, probability });
    };
    previous.predictions.forEach(add(1 - NEWS));
    found.predictions.forEach(add(NEWS));
    const predictions = [...blended.values()]
      .sort((a, b) => b.probability - a.probability)
      .slice(0, SHOWN);
    // The heat map is drawn into the frame that it was found in.
    return { ...found, predictions };
  }

  show(body: HTMLElement, found: Found): void {
    let list = body.querySelector<HTMLElement>("ol.classes");
    if (!list) {
      list = make("ol", { class: "classes" });
      body.replaceChildren(list);
    }
    const old = new Map([...list.children].map((row) => [(row as HTMLElement).dataset.index, row]));
    const rows = found.predictions.map((prediction) => {
      const canBeChosen = String(this.isDrawn(found));
      const before = old.get(String(prediction.index)) as HTMLElement | undefined;
      const isLike = before?.dataset.choice === canBeChosen;
      const row = isLike ? before : this.rowOf(prediction, canBeChosen);
      row.dataset.probability = String(prediction.probability);
      row.querySelector(".share")!.textContent = text.percent(prediction.probability);
      row.querySelector<HTMLElement>(".fill")!.style.width = `${(100 * prediction.probability).toFixed(2)}%`;
      const isDrawn = prediction === this.drawn(found);
      row.querySelector("button")?.setAttribute("aria-pressed", String(isDrawn));
      return row;
    });
    // A row that moved, or one made anew, could not be pressed on live video.
    if (rows.some((row, place) => row !== list.children[place]) || rows.length !== list.children.length) {
      list.replaceChildren(...rows);
    }
  }

  headline(found: Found): string[] {
    // What stands on the picture is what is drawn over it.
    const shown = this.isDrawn(found) ? this.drawn(found) : found.predictions[0];
    return shown ? [text.answer(shown.label, text.percent(shown.probability))] : [];
  }

  summary({ predictions: [first] }: Found): string {
    return first ? `${first.label}, ${text.percent(first.probability)}` : "";
  }

  words({ predictions }: Found): string {
    return predictions.map(named).join(", ");
  }

  isSettable({ heatMap }: Found): boolean {
    return heatMap !== undefined;
  }

  isDrawn({ heatMap }: Found): boolean {
    return heatMap !== undefined && this.control.isOn === true;
  }

  draw(overlay: Overlay, found: Found): void {
    const prediction = this.drawn(found);
    if (!prediction || !found.heatMap || !this.isDrawn(found)) {
      overlay.clear();
      return;
    }
    const picture = heatPicture(found.heatMap, prediction.index, found.shown);
    overlay.showMask(picture, heatColours(), this.control.value / 100);
  }

  /** The class that is drawn. */
  private drawn({ predictions }: Found): Prediction | undefined {
    return predictions.find(({ label }) => label === this.wanted) ?? predictions[0];
  }

  /** @param canBeChosen "true" where its class can be the one that is drawn. */
  private rowOf({ index, label }: Prediction, canBeChosen: string): HTMLElement {
    const name = make("span", { class: "name" }, label);
    let first: HTMLElement = name;
    if (canBeChosen === "true") {
      first = make("button", { class: "choice", type: "button", title: text.heatMapOf(label) }, name);
      first.addEventListener("click", () => {
        this.wanted = label;
        this.changed();
      });
    }
    return make(
      "li",
      { class: "class", "data-index": String(index), "data-choice": canBeChosen },
      first,
      make("span", { class: "share" }),
      make("div", { class: "track", "aria-hidden": "true" }, make("div", { class: "fill" })),
    );
  }
}
