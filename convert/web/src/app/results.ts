/** Draws the frames of answers, what runs, and the models' cards. */
import type { Way } from "../infer";
import { definitions, make } from "./dom";
import type { Failure, ModelState } from "./protocol";
import type { Summary } from "./site";
import { text } from "./text";

/** A path in the site, or the name of a file that a person gave. */
function fileName(file: string): string {
  return URL.canParse(file) ? decodeURI(new URL(file).pathname) : file;
}

/** Reasons with the runtimes' names as people read them. */
function named(reasons: string): string {
  const names = new RegExp(`\\b(${Object.keys(text.runtimes).join("|")})(?=: )`, "g");
  return reasons.replace(names, (name) => text.runtimes[name as keyof typeof text.runtimes]);
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
      return text.errors.no_runtime(named(details.reasons ?? message));
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
export function runtimeText({ runtime, threads, precision }: Way): string {
  const parts: string[] = [text.runtimes[runtime]];
  if (threads) parts.push(text.threads(threads));
  if (precision) parts.push(text.gpuPrecisions[precision]);
  return parts.join(", ");
}

/** One model's answer: its name; what it says comes with `fillCard`. */
export function resultCard(name: string): HTMLElement {
  const card = make("article", { class: "result" }, make("h3", {}, name));
  card.append(make("p", { class: "runs-on" }, text.predicting));
  return card;
}

/**
 * Says in a card made by `resultCard` what runs, how long it took and how that compares; returns the
 * answer's place.
 */
export function fillCard(card: HTMLElement, state: ModelState, compared: readonly string[]): HTMLElement {
  const { inference, firstRun, load } = state.timings;
  const times = definitions("times", [
    [text.inferenceTime, text.milliseconds(inference)],
    [text.firstRunTime, text.milliseconds(firstRun)],
    [text.loadTime, text.milliseconds(load)],
  ]);
  const runs = make("p", { class: "runs-on" }, text.runsOn(runtimeText(state)));
  const held = card.querySelector<HTMLElement>(".body");
  const body = held ?? make("div", { class: "body" });
  if (!held) card.replaceChildren(card.firstElementChild!, body);
  // The body stays where it is: a button in it may be pressed or have the focus.
  while (body.nextSibling) body.nextSibling.remove();
  const lines = compared.map((line) => make("li", {}, line));
  body.after(...(lines.length > 0 ? [make("ul", { class: "compared" }, ...lines)] : []), times, runs);
  return body;
}

/** What runs, and why the others do not: what was measured of them says it better. */
export function statusOf(name: string, state: ModelState, measured: Node | null): HTMLElement {
  const runs = text.runsOn(runtimeText(state));
  const box = make("div", {}, make("p", {}, `${name}: ${runs}`));
  if (measured) box.append(measured);
  if (state.rejected.length > 0 && !(measured instanceof HTMLDetailsElement)) {
    const reasons = state.rejected.map(({ runtime, reason }) =>
      make("li", {}, text.notUsedBecause(text.runtimes[runtime], reason)),
    );
    box.append(make("details", {}, make("summary", {}, text.notUsed), make("ul", {}, ...reasons)));
  }
  return box;
}

/** Figures on validation images: "top-1 91.0 %, top-5 99.0 %, 150 images". */
function accuracyText({ images, ...figures }: NonNullable<Summary["accuracy"]>): string {
  const known = Object.entries(text.figures).flatMap(([name, words]) =>
    name in figures ? [`${words} ${text.percent(figures[name]!)}`] : [],
  );
  return text.figuresOn(known.join(", "), images);
}

/** How far the file's answers lie from Keras's; files of 0.1.0 have no sentence of their own. */
function parityText({ summary, images, ...figures }: NonNullable<Summary["parity"]>): string {
  if (summary) return summary;
  const difference = Number(figures.max_abs_difference).toExponential(1);
  return text.parity(text.percent(Number(figures.top1_agreement)), difference, images);
}

/** The facts that the exporter wrote into a model's report. */
export function modelCard(name: string, report: Summary): HTMLElement {
  const { accuracy, parity, parameters, bytes, size } = report;
  const rows: [string, string][] = [
    [text.cardTask, text.tasks[report.task] ?? report.task],
    [text.cardVariant, report.variant],
    ...(report.num_classes === undefined
      ? []
      : [[text.cardClasses, text.count(report.num_classes)] as [string, string]]),
    [text.cardSize, text.pixels(size[0], size[1])],
    [text.cardPrecision, report.precision],
    [text.cardAccuracy, accuracy ? accuracyText(accuracy) : text.unknown],
  ];
  if (parity) rows.push([text.cardParity, parityText(parity)]);
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
