/** A list of classes with their colours, each of which can be switched off. */
import type { Colour } from "../../infer";
import { make } from "../dom";

export interface ClassRow {
  index: number;
  label: string;
  colour: Colour;
  /** Length of the bar, 0 to 1. */
  part: number;
  /** What stands beside the name. */
  value: string;
}

/** The colour as CSS has it. */
export function css(colour: Colour): string {
  return `rgb(${colour.join(" ")})`;
}

/** A dot in a class's colour. */
export function swatch(colour: Colour): HTMLElement {
  const dot = make("span", { class: "swatch", "aria-hidden": "true" });
  dot.style.background = css(colour);
  return dot;
}

/**
 * Shows the rows in a card. Those shown there before keep their places and their buttons: on live
 * video a row that moved, or a button made anew, could not be pressed.
 */
export function showRows(
  body: HTMLElement,
  rows: readonly ClassRow[],
  isOn: (index: number) => boolean,
  toggle: (index: number) => void,
): void {
  let list = body.querySelector<HTMLElement>("ul.classes");
  if (!list) {
    list = make("ul", { class: "classes legend" });
    body.replaceChildren(list);
  }
  const old = new Map([...list.children].map((row) => [(row as HTMLElement).dataset.index, row]));
  for (const row of rows) {
    const key = String(row.index);
    let item = old.get(key) as HTMLElement | undefined;
    old.delete(key);
    if (!item) {
      item = rowOf(row, () => toggle(row.index));
      list.append(item);
    }
    item.dataset.share = String(row.part);
    item.querySelector("button")!.setAttribute("aria-pressed", String(isOn(row.index)));
    item.querySelector(".share")!.textContent = row.value;
    item.querySelector<HTMLElement>(".fill")!.style.width = `${(100 * row.part).toFixed(2)}%`;
  }
  for (const row of old.values()) row.remove();
}

function rowOf({ index, label, colour }: ClassRow, press: () => void): HTMLElement {
  const name = make("span", { class: "name" }, label);
  const button = make("button", { class: "toggle", type: "button" }, swatch(colour), name);
  button.addEventListener("click", press);
  const fill = make("div", { class: "fill" });
  fill.style.background = css(colour);
  return make(
    "li",
    { class: "class", "data-index": String(index) },
    button,
    make("span", { class: "share" }),
    make("div", { class: "track", "aria-hidden": "true" }, fill),
  );
}

