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
import { type ImageSource, pixelsOf } from "./decode";
import type { Description } from "./description";
import { InferError, reasonOf } from "./errors";
import { type FetchOptions, formatOfUrl, type ModelFiles, readModel, type Source } from "./files";
import { fitted, type Preprocessing } from "./geometry";
import { openLiteRt } from "./litert";
import { preprocess } from "./preprocess";
import {
  defaultThreads,
  type Format,
  formatOf,
  type Outputs,
  RUNTIMES,
  type RuntimeName,
  type Session,
  type SessionOptions,
  unsuitable,
} from "./runtimes";
import { best, classification, type Prediction } from "./tasks/classify";
import type { Task } from "./tasks/task";
import { openTfjs } from "./tfjs";

export { BITMAP_OPTIONS, type ImageSource, pixelsOf } from "./decode";
export type { Description } from "./description";
export { type ErrorCode, InferError } from "./errors";
export type { FetchOptions, Source } from "./files";
export { fitted, type Preprocessing } from "./geometry";
export { type Pixels, preprocess } from "./preprocess";
export { type Format, formatOf, type Outputs, RUNTIMES, type RuntimeName, unsuitable } from "./runtimes";
export { best, type Prediction } from "./tasks/classify";

/** Every task that this version can read, by its name in descriptions. */
const TASKS: ReadonlyMap<string, Task<unknown>> = new Map([[classification.name, classification]]);

export interface LoadOptions extends FetchOptions {
  /** `"auto"`, the default, takes the first runtime that works; a name takes that one or fails. */
  runtime?: RuntimeName | "auto";
  /** Folder with the runtimes' WebAssembly files (`litert/`, `tfjs/`). */
  assets?: string;
  /** WebAssembly threads; by default up to four where the page is cross-origin isolated. */
  threads?: number;
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

/** A loaded model; made by `load`. */
export class Model {
  /** What the file says of itself. */
  readonly description: Description;
  /** The runtimes tried before the one that runs. */
  readonly rejected: readonly Rejection[];
  readonly timings: Timings;
  private readonly session: Session;
  private readonly preprocessing: Preprocessing;

  constructor(
    session: Session,
    description: Description,
    rejected: readonly Rejection[],
    timings: Timings,
  ) {
    this.session = session;
    this.preprocessing = fitted(description.preprocessing, description.size);
    this.description = description;
    this.rejected = rejected;
    this.timings = timings;
  }

  get runtime(): RuntimeName {
    return this.session.runtime;
  }

  get labels(): readonly string[] {
    return this.description.class_names;
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
   * Every output for an image, by name.
   *
   * @throws InferError `not_an_image`, `runtime_failed`.
   */
  async run(image: ImageSource): Promise<Outputs> {
    const start = performance.now();
    const input = preprocess(await pixelsOf(image), this.preprocessing, this.description.size);
    const middle = performance.now();
    const outputs = await this.session.run(input);
    this.timings.preprocess = middle - start;
    this.timings.inference = performance.now() - middle;
    if (!Object.values(outputs).every((values) => values.every(Number.isFinite))) {
      throw new InferError("runtime_failed", "the output is not a number");
    }
    return outputs;
  }

  /** All classes' probabilities for an image. */
  async probabilities(image: ImageSource): Promise<Float32Array> {
    return classification.decode(await this.run(image), this.description);
  }

  /** The `count` most probable classes, the best first. */
  async classify(image: ImageSource, count = 5): Promise<Prediction[]> {
    return best(await this.probabilities(image), this.labels, count);
  }

  /** Runs the model once on zeros and returns the milliseconds that it took. */
  async time(): Promise<number> {
    const start = performance.now();
    await this.session.run(zeros(this.description));
    return performance.now() - start;
  }

  /** Frees the model; it cannot be used afterwards. */
  dispose(): void {
    this.session.dispose();
  }
}

function zeros({ size: [height, width] }: Description): Float32Array {
  return new Float32Array(height * width * 3);
}

function taskOf(description: Description): Task<unknown> {
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

function open(files: ModelFiles, runtime: RuntimeName, options: SessionOptions): Promise<Session> {
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
 * Loads a model. Its class names and how images are prepared for it stand in its file.
 *
 * @param source Address of a `.tflite` file or of a TensorFlow.js `model.json`, both of them, or a
 *   `.tflite` file that a person has chosen.
 * @throws InferError `not_found`, `truncated`, `not_a_model`, `not_described`, `wrong_task`,
 *   `no_runtime`, `cancelled`.
 */
export async function load(source: Source, options: LoadOptions = {}): Promise<Model> {
  const formats = readers(source, options);
  const { runtime = "auto", threads = defaultThreads() } = options;
  const assets = new URL(options.assets ?? "runtimes/", globalThis.location?.href).href;
  const rejected: Rejection[] = [];
  for (const candidate of runtime === "auto" ? RUNTIMES : [runtime]) {
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
    taskOf(description);
    if (runtime === "auto" && candidate === "litert-webgpu" && description.precision.startsWith("int8")) {
      rejected.push({ runtime: candidate, reason: "an int8 model is made for WebAssembly" });
      continue;
    }
    let session: Session | undefined;
    try {
      session = await open(files, candidate, { assets, threads });
      const timings = { load: performance.now() - start, firstRun: 0, preprocess: 0, inference: 0 };
      timings.firstRun = await firstRun(session, description);
      return new Model(session, description, rejected, timings);
    } catch (error) {
      session?.dispose();
      if (error instanceof InferError && error.code !== "runtime_failed") throw error;
      rejected.push({ runtime: candidate, reason: reasonOf(error) });
    }
  }
  const reasons = rejected.map(({ runtime: name, reason }) => `${name}: ${reason}`).join("; ");
  throw new InferError("no_runtime", `No runtime can run this model (${reasons}).`, { reasons });
}
