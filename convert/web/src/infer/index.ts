/**
 * Image classification with a model exported by mobilevit_keras; no DOM code.
 *
 * ```ts
 * import { load } from "mobilevit-keras-web";
 * const model = await load("/models/model.tflite", { assets: "/runtimes/" });
 * const top = await model.classify(await createImageBitmap(file));
 * console.log(top[0].label, top[0].probability);
 * ```
 *
 * @module
 */
import { InferError, reasonOf } from "./errors";
import { formatOfUrl, type ModelFiles, readLabels, readModel, readReport, type Report } from "./files";
import { openLiteRt } from "./litert";
import { fitted, type Pixels, preprocess, type Preprocessing } from "./preprocess";
import {
  defaultThreads,
  type Format,
  formatOf,
  RUNTIMES,
  type RuntimeName,
  type Session,
  type SessionOptions,
  unsuitable,
} from "./runtimes";
import { openTfjs } from "./tfjs";

export { type ErrorCode, InferError } from "./errors";
export type { Report } from "./files";
export { fitted, type Pixels, preprocess, type Preprocessing } from "./preprocess";
export { type Format, formatOf, RUNTIMES, type RuntimeName, unsuitable } from "./runtimes";

export interface LoadOptions {
  /** `"auto"`, the default, takes the first runtime that works; a name takes that one or fails. */
  runtime?: RuntimeName | "auto";
  /** Folder with the runtimes' WebAssembly files (`litert/`, `tfjs/`). */
  assets?: string;
  /** WebAssembly threads; by default up to four where the page is cross-origin isolated. */
  threads?: number;
}

/** One class of a prediction. */
export interface Prediction {
  index: number;
  label: string;
  probability: number;
}

/** A runtime that was passed over or failed, and why. */
export interface Rejection {
  runtime: RuntimeName;
  reason: string;
}

/** Milliseconds of the steps so far. */
export interface Timings {
  /** Reading the files and compiling the model. */
  load: number;
  /** The first run, with what a runtime prepares only then (shaders, memory). */
  firstRun: number;
  /** The latest image: reading its pixels, resizing, cropping. */
  preprocess: number;
  /** The latest image: the model alone, until its output is readable. */
  inference: number;
}

/** Addresses of one model in one or both formats. */
export type Source = string | Partial<Record<Format, string>>;

/** A loaded model; made by `load`. */
export class Model {
  readonly report: Report;
  readonly labels: readonly string[];
  /** The runtimes tried before the one that runs. */
  readonly rejected: readonly Rejection[];
  readonly timings: Timings;
  private readonly session: Session;
  private readonly preprocessing: Preprocessing;

  constructor(
    session: Session,
    report: Report,
    labels: readonly string[],
    rejected: readonly Rejection[],
    timings: Timings,
  ) {
    this.session = session;
    this.preprocessing = fitted(report.preprocessing, report.size);
    this.report = report;
    this.labels = labels;
    this.rejected = rejected;
    this.timings = timings;
  }

  get runtime(): RuntimeName {
    return this.session.runtime;
  }

  /** WebAssembly threads; 0 on a graphics processor. */
  get threads(): number {
    return this.session.threads;
  }

  /** Bytes that the runtime holds, with all the models it has loaded. */
  get memory(): number {
    return this.session.memory();
  }

  /**
   * All classes' probabilities for an image.
   *
   * @throws InferError `not_an_image`, `runtime_failed`.
   */
  async probabilities(image: ImageBitmap | Blob | Pixels): Promise<Float32Array> {
    const start = performance.now();
    const input = preprocess(await pixelsOf(image), this.preprocessing, this.report.size);
    const middle = performance.now();
    const output = await this.session.run(input);
    this.timings.preprocess = middle - start;
    this.timings.inference = performance.now() - middle;
    if (!output.every(Number.isFinite)) {
      throw new InferError("runtime_failed", "the output is not a number");
    }
    return output;
  }

  /** The `count` most probable classes, the best first. */
  async classify(image: ImageBitmap | Blob | Pixels, count = 5): Promise<Prediction[]> {
    return best(await this.probabilities(image), this.labels, count);
  }

  /** Runs the model once on zeros and returns the milliseconds that it took. */
  async time(): Promise<number> {
    const [height, width] = this.report.size;
    const input = new Float32Array(height * width * 3);
    const start = performance.now();
    await this.session.run(input);
    return performance.now() - start;
  }

  /** Frees the model; it cannot be used afterwards. */
  dispose(): void {
    this.session.dispose();
  }
}

/** The `count` largest probabilities with their names, the largest first. */
export function best(
  probabilities: Float32Array,
  labels: readonly string[],
  count: number,
): Prediction[] {
  return Array.from(probabilities, (probability, index) => ({
    index,
    label: labels[index] ?? String(index),
    probability,
  }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, count);
}

async function pixelsOf(image: ImageBitmap | Blob | Pixels): Promise<Pixels> {
  if ("data" in image) return image;
  if (image instanceof Blob) return decode(image);
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new InferError("not_an_image", "The image is too large for a canvas.");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

async function decode(blob: Blob): Promise<Pixels> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(blob, BITMAP_OPTIONS);
  } catch (error) {
    throw new InferError("not_an_image", reasonOf(error));
  }
  try {
    return await pixelsOf(bitmap);
  } finally {
    bitmap.close();
  }
}

/** Decoding that the evaluation pipeline shares: upright, and no colour profile applied. */
export const BITMAP_OPTIONS: ImageBitmapOptions = {
  imageOrientation: "from-image",
  colorSpaceConversion: "none",
};

/** Runs the model once and checks that it is the classifier that its report describes. */
async function firstRun(session: Session, report: Report): Promise<number> {
  const [height, width] = report.size;
  const wanted = `1x${height}x${width}x3`;
  const received = session.inputShape.join("x");
  if (received !== wanted) {
    throw new InferError("wrong_task", `the input must be ${wanted}. Received: ${received}.`);
  }
  const start = performance.now();
  const output = await session.run(new Float32Array(height * width * 3));
  if (output.length !== report.num_classes) {
    throw new InferError(
      "wrong_task",
      `the output must be ${report.num_classes} probabilities. Received: ${output.length} values.`,
    );
  }
  return performance.now() - start;
}

function open(files: ModelFiles, runtime: RuntimeName, options: SessionOptions): Promise<Session> {
  const processor = runtime.slice(runtime.indexOf("-") + 1) as "wasm" | "webgl" | "webgpu";
  if (files.format === "tfjs") return openTfjs(files.json, files.weights, processor, options);
  return openLiteRt(files.bytes, processor as "wasm" | "webgpu", options);
}

/** Why the automatic choice passes over a runtime for this model, or null. */
async function obstacleFor(runtime: RuntimeName, report: Report): Promise<string | null> {
  if (runtime === "litert-webgpu" && report.precision.startsWith("int8")) {
    return "an int8 model is made for WebAssembly";
  }
  return unsuitable(runtime);
}

/**
 * Loads a model with its report and class names, which lie beside it.
 *
 * @param source Address of a `.tflite` file or of a TensorFlow.js `model.json`, or both of them.
 * @throws InferError `not_found`, `truncated`, `not_a_model`, `wrong_task`, `no_runtime`.
 */
export async function load(source: Source, options: LoadOptions = {}): Promise<Model> {
  const base = globalThis.location?.href;
  const urls = new Map<Format, string>();
  for (const url of typeof source === "string" ? [source] : Object.values(source)) {
    const absolute = new URL(url, base).href;
    urls.set(formatOfUrl(absolute), absolute);
  }
  const { runtime = "auto", threads = defaultThreads() } = options;
  const assets = new URL(options.assets ?? "runtimes/", base).href;
  const rejected: Rejection[] = [];
  const candidates = runtime === "auto" ? RUNTIMES : [runtime];
  for (const candidate of candidates) {
    const url = urls.get(formatOf(candidate));
    if (!url) {
      rejected.push({ runtime: candidate, reason: "this model has no file for it" });
      continue;
    }
    const start = performance.now();
    const report = await readReport(url);
    const obstacle = runtime === "auto" ? await obstacleFor(candidate, report) : null;
    if (obstacle) {
      rejected.push({ runtime: candidate, reason: obstacle });
      continue;
    }
    const labels = await readLabels(url, report.num_classes);
    const files = await readModel(url, report);
    try {
      const session = await open(files, candidate, { assets, threads });
      const timings = { load: performance.now() - start, firstRun: 0, preprocess: 0, inference: 0 };
      timings.firstRun = await firstRun(session, report);
      return new Model(session, report, labels, rejected, timings);
    } catch (error) {
      if (error instanceof InferError && error.code !== "runtime_failed") throw error;
      rejected.push({ runtime: candidate, reason: reasonOf(error) });
    }
  }
  const reasons = rejected.map(({ runtime: name, reason }) => `${name}: ${reason}`).join("; ");
  throw new InferError("no_runtime", `No runtime can run this model (${reasons}).`, { reasons });
}
