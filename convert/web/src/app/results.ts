/** Draws predictions, what runs, and the models' cards. */
import type { Prediction, RuntimeName } from "../infer";
import { definitions, make } from "./dom";
import type { Classification, Failure, ModelState } from "./protocol";
import type { Summary } from "./site";
import { text } from "./text";

/** A path in the site, or the name of a file that a person gave. */
function fileName(file: string): string {
  return URL.canParse(file) ? decodeURI(new URL(file).pathname) : file;
}

/** A sentence for a failed request. */
export function failureText({ code, message, details }: Failure): string {
  const file = details.file ? fileName(details.file) : message;
  switch (code) {
    case "not_found":
    case "truncated":
    case "not_a_model":
    case "not_described":
      return text.errors[code](file);
    case "no_runtime":
      return text.errors.no_runtime(details.reasons ?? message);
    case "cancelled":
      return text.errors.cancelled;
    case "wrong_task":
    case "runtime_failed":
    case "unexpected":
      return text.errors[code](message);
    case "not_an_image":
    case "worker_crashed":
      return text.errors[code];
  }
}

/** "LiteRT.js, WebAssembly, 2 threads". */
export function runtimeText(runtime: RuntimeName, threads: number): string {
  const name = text.runtimes[runtime];
  return threads > 0 ? `${name}, ${text.threads(threads)}` : name;
}

/** One model's predictions: name, bars, times. */
export function resultCard(name: string): HTMLElement {
  const card = make("article", { class: "result" }, make("h3", {}, name));
  card.append(make("p", { class: "runs-on" }, text.predicting));
  return card;
}

/** Puts a prediction into a card made by `resultCard`. */
export function showPrediction(card: HTMLElement, { predictions, state }: Classification): void {
  const list = make("ol", { class: "classes" });
  for (const { label, probability } of predictions) {
    const share = text.percent(probability);
    const fill = make("div", { class: "fill" });
    fill.style.width = `${(100 * probability).toFixed(2)}%`;
    list.append(
      make(
        "li",
        { class: "class", "data-probability": String(probability) },
        make("span", { class: "name" }, label),
        make("span", { class: "share" }, share),
        make("div", { class: "track", "aria-hidden": "true" }, fill),
      ),
    );
  }
  const { inference, firstRun, load } = state.timings;
  const times = definitions("times", [
    [text.inferenceTime, text.milliseconds(inference)],
    [text.firstRunTime, text.milliseconds(firstRun)],
    [text.loadTime, text.milliseconds(load)],
  ]);
  const runs = text.runsOn(runtimeText(state.runtime, state.threads));
  card.replaceChildren(card.firstElementChild!, list, times, make("p", { class: "runs-on" }, runs));
}

/** A prediction as a line of text. */
export function resultText(title: string, predictions: readonly Prediction[]): string {
  const classes = predictions.map(({ label, probability }) => `${label} ${text.percent(probability)}`);
  return `${title}: ${classes.join(", ")}`;
}

/** What runs and why the others do not. */
export function statusOf(name: string, state: ModelState): HTMLElement {
  const runs = text.runsOn(runtimeText(state.runtime, state.threads));
  const box = make("div", {}, make("p", {}, `${name}: ${runs}`));
  if (state.rejected.length > 0) {
    const reasons = state.rejected.map(({ runtime, reason }) =>
      make("li", {}, text.notUsedBecause(text.runtimes[runtime], reason)),
    );
    box.append(make("details", {}, make("summary", {}, text.notUsed), make("ul", {}, ...reasons)));
  }
  return box;
}

/** The facts that the exporter wrote into a model's report. */
export function modelCard(name: string, report: Summary): HTMLElement {
  const { accuracy, parity, parameters, bytes, size } = report;
  const rows: [string, string][] = [
    [text.cardVariant, report.variant],
    ...(report.num_classes === undefined
      ? []
      : [[text.cardClasses, text.count(report.num_classes)] as [string, string]]),
    [text.cardSize, text.pixels(size[0], size[1])],
    [text.cardPrecision, report.precision],
    [
      text.cardAccuracy,
      accuracy
        ? text.accuracy(text.percent(accuracy.top1), text.percent(accuracy.top5), accuracy.images)
        : text.unknown,
    ],
  ];
  if (parity) {
    const difference = parity.max_abs_difference.toExponential(1);
    const agreement = text.percent(parity.top1_agreement);
    rows.push([text.cardParity, text.parity(agreement, difference, parity.images)]);
  }
  if (parameters) rows.push([text.cardParameters, text.count(parameters)]);
  if (bytes) rows.push([text.cardFileSize, text.bytes(bytes)]);
  const facts = make("dl", { class: "facts" });
  for (const [term, value] of rows) facts.append(make("dt", {}, term), make("dd", {}, value));
  return make(
    "details",
    { class: "card model-card" },
    make("summary", {}, `${text.modelCard}: ${name}`),
    facts,
  );
}
