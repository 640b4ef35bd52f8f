/** The most probable classes, with bars. */
import type { Prediction } from "../../infer";
import { make } from "../dom";
import { text } from "../text";
import type { View } from "./view";

const named = ({ label, probability }: Prediction) => `${label} ${text.percent(probability)}`;

/** What the latest frame counts beside those before it: half is forgotten within two frames. */
const NEWS = 0.3;
const SHOWN = 5;

export class ClassificationView implements View<"classification"> {
  blend(previous: Prediction[], predictions: Prediction[]): Prediction[] {
    const blended = new Map<number, Prediction>();
    // A class that is not among the best of a frame counts as nothing there.
    const add = (share: number) => (prediction: Prediction) => {
      const before = blended.get(prediction.index)?.probability ?? 0;
      const probability = before + share * prediction.probability;
      blended.set(prediction.index, { ...prediction, probability });
    };
    previous.forEach(add(1 - NEWS));
    predictions.forEach(add(NEWS));
    return [...blended.values()].sort((a, b) => b.probability - a.probability).slice(0, SHOWN);
  }

  show(body: HTMLElement, predictions: Prediction[]): void {
    const list = make("ol", { class: "classes" });
    for (const { label, probability } of predictions) {
      const fill = make("div", { class: "fill" });
      fill.style.width = `${(100 * probability).toFixed(2)}%`;
      list.append(
        make(
          "li",
          { class: "class", "data-probability": String(probability) },
          make("span", { class: "name" }, label),
          make("span", { class: "share" }, text.percent(probability)),
          make("div", { class: "track", "aria-hidden": "true" }, fill),
        ),
      );
    }
    body.replaceChildren(list);
  }

  headline([first]: Prediction[]): string[] {
    return first ? [text.answer(first.label, text.percent(first.probability))] : [];
  }

  summary([first]: Prediction[]): string {
    return first ? `${first.label}, ${text.percent(first.probability)}` : "";
  }

  words(predictions: Prediction[]): string {
    return predictions.map(named).join(", ");
  }
}
