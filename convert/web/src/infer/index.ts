/**
 * Models exported by mobilevit_keras: what an image shows, and where; no DOM code.
 *
 * ```ts
 * import { load } from "mobilevit-keras-web";
 * const model = await load("/models/model.tflite", { assets: "/runtimes/" });
 * if (model.task === "classification") console.log(await model.classify(file));
 * if (model.task === "segmentation") console.log((await model.segment(file)).classes);
 * if (model.task === "detection") console.log((await model.detect(file)).objects);
 * ```
 *
 * @module
 */
import type { Description } from "./description";
import { InferError, reasonOf } from "./errors";
import { type FetchOptions, formatOfUrl, type ModelFiles, readModel, type Source } from "./files";
import { openLiteRt } from "./litert";
import { type Rejection, zeros } from "./model";
import type { OnProgress } from "./progress";
import {
  defaultThreads,
  type Format,
  formatOf,
  RUNTIMES,
  type RuntimeName,
  type Session,
  type SessionOptions,
  unsuitable,
  type Way,
} from "./runtimes";
import { type AnyModel, TASKS } from "./tasks";
import type { Task } from "./tasks/task";
import { openTfjs } from "./tfjs";

export { BITMAP_OPTIONS, type ImageSource, pixelsOf } from "./decode";
export type { Description } from "./description";
export { type ErrorCode, InferError } from "./errors";
export type { FetchOptions, Source } from "./files";
export { type Box, fitted, type Preprocessing, type Size } from "./geometry";
export { heatColour, heatColours, type HeatMap, type HeatPicture, heatPicture } from "./heat";
export { Model, type Rejection, type Timings } from "./model";
export { classColour, type Colour } from "./palette";
export { type Pixels, preprocess } from "./preprocess";
export {
  defaultThreads,
  type Format,
  formatOf,
  type GpuPrecision,
  isWay,
  type Outputs,
  type Running,
  RUNTIMES,
  type RuntimeName,
  unsuitable,
  type Way,
  wayOf,
} from "./runtimes";
export type { AnyModel } from "./tasks";
export { best, type Classification, Classifier, type Prediction } from "./tasks/classify";
export { type Detection, Detector, type FoundObject } from "./tasks/detect";
export { type ClassShare, type Segmentation, Segmenter } from "./tasks/segment";

export interface LoadOptions extends FetchOptions {
  /**
   * `"auto"`, the default, takes the first runtime that works in this browser, a list the first of
   * it; a name takes that one or fails.
   */
  runtime?: RuntimeName | "auto" | readonly Way[];
  /** Folder with the runtimes' WebAssembly files (`litert/`, `tfjs/`). */
  assets?: string;
  /** WebAssembly threads; by default up to four where the page is cross-origin isolated. */
  threads?: number;
  /** Hears how far the runtime has come, which is fetched once, after the model: some megabytes. */
  onRuntimeProgress?: OnProgress;
}

function taskOf(description: Description): Task<AnyModel> {
  const task = TASKS.get(description.task);
  if (task) return task;
  const known = [...TASKS.keys()].join(", ");
  throw new InferError("wrong_task", `it must be one of: ${known}. Received: ${description.task}.`);
}

/** Runs the model once and checks that it is what its description says. */
async function firstRun(session: Session, description: Description): Promise<number> {
  const [height, width] = description.size;
  const wanted = `1x${height}x${width}x3`;
  const received = session.inputShape.join("x");
  if (received !== wanted) {
    throw new InferError("wrong_task", `the input must be ${wanted}. Received: ${received}.`);
  }
  const start = performance.now();
  taskOf(description).check(await session.run(zeros(description)), description);
  return performance.now() - start;
}

/** What is tried, in this order. */
function waysOf(runtime: RuntimeName | "auto" | readonly Way[]): readonly Way[] {
  if (runtime === "auto") return RUNTIMES.map((name) => ({ runtime: name }));
  return typeof runtime === "string" ? [{ runtime }] : runtime;
}

function open(files: ModelFiles, options: SessionOptions): Promise<Session> {
  const { runtime } = options.way;
  const processor = runtime.slice(runtime.indexOf("-") + 1) as "wasm" | "webgl" | "webgpu";
  if (files.format === "tfjs") return openTfjs(files.json, files.weights, processor, options);
  return openLiteRt(files.bytes, processor as "wasm" | "webgpu", options);
}

/** The model's files by format, each read when it is first needed, and once. */
function readers(source: Source, options: FetchOptions): Map<Format, () => Promise<ModelFiles>> {
  const found = new Map<Format, () => Promise<ModelFiles>>();
  const add = (format: Format, one: string | Blob) => {
    let files: Promise<ModelFiles> | undefined;
    found.set(format, () => (files ??= readModel(one, options)));
  };
  if (source instanceof Blob) add("tflite", source);
  else {
    for (const url of typeof source === "string" ? [source] : Object.values(source)) {
      const absolute = new URL(url, globalThis.location?.href).href;
      add(formatOfUrl(absolute), absolute);
    }
  }
  return found;
}

/**
 * Loads a model: a `Classifier`, a `Segmenter` or a `Detector`, as its file says of itself. Its class names and
 * how images are prepared for it stand there, too.
 *
 * @param source Address of a `.tflite` file or of a TensorFlow.js `model.json`, both of them, or a
 *   `.tflite` file that a person has chosen.
 * @throws InferError `not_found`, `truncated`, `not_a_model`, `not_described`, `wrong_task`,
 *   `no_runtime`, `cancelled`.
 */
export async function load(source: Source, options: LoadOptions = {}): Promise<AnyModel> {
  const formats = readers(source, options);
  const { runtime = "auto", threads = defaultThreads() } = options;
  const assets = new URL(options.assets ?? "runtimes/", globalThis.location?.href).href;
  const rejected: Rejection[] = [];
  for (const way of waysOf(runtime)) {
    const candidate = way.runtime;
    const read = formats.get(formatOf(candidate));
    let reason = read ? null : "this model has no file for it";
    if (!reason && runtime === "auto") reason = await unsuitable(candidate);
    if (!read || reason) {
      rejected.push({ runtime: candidate, reason: reason! });
      continue;
    }
    const start = performance.now();
    const files = await read();
    const { description } = files;
    const task = taskOf(description);
    if (runtime === "auto" && candidate === "litert-webgpu" && description.precision.startsWith("int8")) {
      rejected.push({ runtime: candidate, reason: "an int8 model is made for WebAssembly" });
      continue;
    }
    let session: Session | undefined;
    try {
      const onProgress = options.onRuntimeProgress;
      session = await open(files, { assets, threads, way, onProgress });
      const loaded = performance.now() - start;
      const first = await firstRun(session, description);
      const timings = { load: loaded, firstRun: first, preprocess: 0, inference: 0, decode: 0 };
      return task.open({ session, description, rejected, timings });
    } catch (error) {
      session?.dispose();
      if (error instanceof InferError && error.code !== "runtime_failed") throw error;
      rejected.push({ runtime: candidate, reason: reasonOf(error) });
    }
  }
  // That there is no file for a runtime says nothing where others were tried.
  const tried = rejected.filter(({ runtime: name }) => formats.has(formatOf(name)));
  const reasons = (tried.length > 0 ? tried : rejected)
    .map(({ runtime: name, reason }) => `${name}: ${reason}`)
    .join("; ");
  throw new InferError("no_runtime", `No runtime can run this model (${reasons}).`, { reasons });
}
