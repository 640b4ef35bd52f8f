/** Several models side by side: how far another one agrees with the first, how fast it is, and why. */
import { formatOf } from "../infer";
import { agreement } from "./agreement";
import type { Answer, ModelState } from "./protocol";
import type { SiteModel, Summary } from "./site";
import { text } from "./text";

/** A model and its answer. */
export interface Side {
  model: SiteModel;
  answer: Answer;
  /** Of the model alone, the latest run. */
  milliseconds: number;
  /** The same, measured while nothing else ran. */
  measured?: number;
}

/** Times closer to each other than this are equal. */
const EQUAL = 1.05;
/** Sizes closer to each other than this explain nothing. */
const LARGER = 1.2;

/** What is said of a model beside the first one, in sentences. */
export function comparison(first: Side, other: Side): string[] {
  const lines: string[] = [];
  const share = agreement(first.answer, other.answer);
  if (share !== null) lines.push(text.agreements[other.answer.task](share));
  // A single run may have been disturbed.
  const isMeasured = first.measured !== undefined && other.measured !== undefined;
  const ratio = isMeasured
    ? first.measured! / other.measured!
    : first.milliseconds / other.milliseconds;
  const isFaster = ratio > EQUAL;
  if (!isFaster && ratio > 1 / EQUAL) return [...lines, text.speed(text.asFast, isMeasured)];
  const times = (isFaster ? ratio : 1 / ratio).toFixed(1);
  lines.push(text.speed(isFaster ? text.faster(times) : text.slower(times), isMeasured));
  const reasons = (isFaster ? reasonsOf(first, other) : reasonsOf(other, first)).join("; ");
  if (reasons) lines.push(isFaster ? text.firstSlower(reasons) : text.thisSlower(reasons));
  return lines;
}

/** Why one is slower than the other, as far as the page knows. */
function reasonsOf(slow: Side, fast: Side): string[] {
  const [own, its] = [slow.answer.state, fast.answer.state];
  // One thread that was measured as the fastest is no reason.
  const reasons = runtimeReasons(own, its, slow.measured === undefined);
  return [...reasons, ...fileReasons(reportOf(slow), reportOf(fast))];
}

function runtimeReasons(own: ModelState, its: ModelState, threadsCount: boolean): string[] {
  const reasons: string[] = [];
  if (isGraphics(its) && !isGraphics(own)) {
    const cause = own.rejected.find(({ runtime }) => runtime === its.runtime)?.reason;
    reasons.push(text.because.processor(cause ?? ""));
  }
  if (own.runtime.startsWith("tfjs") && its.runtime.startsWith("litert")) reasons.push(text.because.tfjs);
  if (threadsCount && own.threads > 0 && own.threads < its.threads) {
    reasons.push(text.because.threads(own.threads, its.threads));
  }
  if (own.precision === "fp32" && its.precision === "fp16") reasons.push(text.because.gpuPrecision);
  return reasons;
}

function fileReasons(own: Summary | undefined, its: Summary | undefined): string[] {
  if (!own || !its) return [];
  const reasons: string[] = [];
  if (area(own) > LARGER * area(its)) {
    reasons.push(text.because.pixels(text.pixels(own.size[0], own.size[1]), text.pixels(its.size[0], its.size[1])));
  }
  if (own.parameters && its.parameters && own.parameters > LARGER * its.parameters) {
    reasons.push(text.because.parameters(text.count(own.parameters), text.count(its.parameters)));
  }
  if (own.task !== its.task) reasons.push(text.because.task);
  const isInteger = ({ precision }: Summary) => precision.startsWith("int8") || precision === "dynamic";
  if (isInteger(its) && !isInteger(own)) reasons.push(text.because.float);
  return reasons;
}

/** The report of the file that runs. */
function reportOf({ model, answer }: Side): Summary | undefined {
  return model.reports[formatOf(answer.state.runtime)];
}

function area({ size: [height, width] }: Summary): number {
  return height * width;
}

function isGraphics({ threads }: ModelState): boolean {
  return threads === 0;
}
