/** The worker: holds the models, one request after the other, so that the page never waits. */
import {
  type AnyModel,
  InferError,
  isWay,
  load,
  type Pixels,
  pixelsOf,
  type Rejection,
  RUNTIMES,
  type Size,
  unsuitable,
} from "../infer";
import {
  type Answer,
  type ModelSpec,
  type ModelState,
  type Progress,
  PROGRESS,
  READY,
  type Request,
  type RequestKind,
  type Requests,
  type Response,
} from "./protocol";

declare const self: DedicatedWorkerGlobalScope;
declare const __RUNTIMES__: string;

interface Held {
  key: string;
  model: Promise<AnyModel>;
  /** The model, once it is loaded. */
  loaded?: AnyModel;
  abort: AbortController;
}

const models = new Map<string, Held>();
/** Classes that are named of an image. */
const TOP = 5;
const PROGRESS_INTERVAL_MS = 100;
/** What the page may still filter: the paper's own threshold. */
const LEAST_SCORE = 0.05;
/** Addresses read while a model was loaded that then ran. */
const proven = new Set<string>();
/** The latest image, for the models that see it too. */
let decoded: { key: number; pixels: Pixels } | undefined;
let queue: Promise<void> = Promise.resolve();

function modelOf(spec: ModelSpec): Promise<AnyModel> {
  const key = JSON.stringify([spec.runtime, spec.threads]);
  const held = models.get(spec.id);
  if (held && (held.key === key || runsAs(held, spec))) return held.model;
  release(spec.id);
  const assets = new URL(__RUNTIMES__, siteUrl()).href;
  performance.clearResourceTimings();
  const abort = new AbortController();
  const model = load(spec.source, {
    runtime: spec.runtime,
    threads: spec.threads,
    assets,
    bytes: spec.bytes,
    signal: abort.signal,
    onProgress: reporter(spec.id, "model"),
    onRuntimeProgress: reporter(spec.id, "runtime"),
  });
  const added: Held = { key, model, abort };
  const remember = (loaded: AnyModel) => {
    added.loaded = loaded;
    for (const { name } of performance.getEntriesByType("resource")) proven.add(name);
  };
  model.then(remember, () => undefined);
  models.set(spec.id, added);
  // A model that could not be loaded is tried again with the next request.
  model.catch(() => {
    if (models.get(spec.id)?.model === model) models.delete(spec.id);
  });
  return model;
}

/** Whether a model runs already as a list would have it first. */
function runsAs({ loaded }: Held, { runtime }: ModelSpec): boolean {
  if (!loaded || typeof runtime === "string") return false;
  const [first] = runtime;
  return first !== undefined && isWay(loaded, first);
}

/** Tells the page how far a model's files have come, at most ten times a second. */
function reporter(model: string, part: Progress["part"]): (received: number, total: number) => void {
  let last = performance.now();
  return (received, total) => {
    const now = performance.now();
    if (now - last < PROGRESS_INTERVAL_MS) return;
    last = now;
    const news: Response = { id: PROGRESS, progress: { model, part, received, total } };
    self.postMessage(news);
  };
}

function release(id: string): void {
  void models
    .get(id)
    ?.model.then((model) => model.dispose())
    .catch(() => undefined);
  models.delete(id);
}

/** This file lies in the site's `assets/`; the worker's own address is the script that imports it. */
function siteUrl(): string {
  return new URL("..", import.meta.url).href;
}

function stateOf(model: AnyModel): ModelState {
  const { runtime, threads, precision, rejected, timings, memory } = model;
  return { runtime, threads, precision, rejected, timings, memory };
}

async function answerOf(model: AnyModel, pixels: Pixels, shown: Size): Promise<Answer> {
  switch (model.task) {
    case "classification": {
      const found = { ...(await model.explain(pixels, TOP)), shown };
      return { task: model.task, found, state: stateOf(model) };
    }
    case "detection": {
      const found = await model.detect(pixels, LEAST_SCORE);
      return { task: model.task, found, state: stateOf(model) };
    }
    case "segmentation": {
      const found = await model.segment(pixels, shown);
      return { task: model.task, found, state: stateOf(model) };
    }
  }
}

/** What is handed over instead of being copied. */
function transfers(result: unknown): Transferable[] {
  const answer = result as Answer | null;
  if (answer?.task === "segmentation") return [answer.found.mask.buffer];
  const scores = answer?.task === "classification" && answer.found.heatMap?.scores;
  return scores ? [scores.buffer] : [];
}

const handlers: {
  [K in RequestKind]: (argument: Requests[K]["argument"]) => Promise<Requests[K]["result"]>;
} = {
  async prepare({ spec }) {
    const model = await modelOf(spec);
    return { ...stateOf(model), description: model.description };
  },
  async predict({ spec, image, shown, key, last }) {
    try {
      const model = await modelOf(spec);
      if (decoded?.key !== key) {
        decoded = undefined;
        decoded = { key, pixels: await pixelsOf(image) };
      }
      return await answerOf(model, decoded.pixels, shown);
    } finally {
      if (last) decoded = undefined;
      if (!(image instanceof Blob)) image.close();
    }
  },
  async retain({ ids }) {
    for (const id of [...models.keys()]) if (!ids.includes(id)) release(id);
    return null;
  },
  async time({ spec }) {
    return (await modelOf(spec)).time();
  },
  async obstacles() {
    const found: Rejection[] = [];
    for (const runtime of RUNTIMES) {
      const reason = await unsuitable(runtime);
      if (reason) found.push({ runtime, reason });
    }
    return found;
  },
  async resources() {
    return [...proven];
  },
};

async function answer({ id, kind, argument }: Request): Promise<Response> {
  try {
    return { id, result: await handlers[kind](argument as never) };
  } catch (error) {
    const known = error instanceof InferError;
    return {
      id,
      failure: {
        code: known ? error.code : "unexpected",
        message: error instanceof Error ? error.message : String(error),
        details: known ? error.details : {},
      },
    };
  }
}

self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  if (data.kind === "retain") {
    // At once: what is no longer wanted need not be loaded to its end.
    const { ids } = data.argument as Requests["retain"]["argument"];
    for (const [id, { abort }] of models) if (!ids.includes(id)) abort.abort();
  }
  const next = queue.then(async () => {
    const response = await answer(data);
    self.postMessage(response, transfers(response.result));
  });
  // An answer that cannot be sent ends this worker on the page's side, which starts another.
  queue = next.catch(reportError);
});

/** Says that requests can be answered from now on. */
function report(): void {
  const ready: Response = { id: READY };
  self.postMessage(ready);
}

if (navigator.locks) {
  // The page waits for this lock, which becomes free when this worker ends, however it ends.
  void navigator.locks.request(self.name, () => {
    report();
    return new Promise(() => undefined);
  });
} else {
  report();
}
