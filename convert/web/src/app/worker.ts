/** The worker: holds the models, one request after the other, so that the page never waits. */
import { InferError, load, type Model, type Rejection, RUNTIMES, unsuitable } from "../infer";
import {
  type ModelSpec,
  type ModelState,
  READY,
  type Request,
  type RequestKind,
  type Requests,
  type Response,
} from "./protocol";

declare const self: DedicatedWorkerGlobalScope;
declare const __RUNTIMES__: string;

const models = new Map<string, { key: string; model: Promise<Model> }>();
/** Addresses read while a model was loaded that then ran. */
const proven = new Set<string>();
let queue: Promise<void> = Promise.resolve();


function modelOf(spec: ModelSpec): Promise<Model> {
  const key = `${spec.runtime} ${spec.threads ?? ""}`;
  const held = models.get(spec.id);
  if (held?.key === key) return held.model;
  void held?.model.then((model) => model.dispose()).catch(() => undefined);
  const assets = new URL(__RUNTIMES__, siteUrl()).href;
  performance.clearResourceTimings();
  const model = load(spec.source, { runtime: spec.runtime, threads: spec.threads, assets });
  const remember = () => {
    for (const { name } of performance.getEntriesByType("resource")) proven.add(name);
  };
  model.then(remember, () => undefined);
  models.set(spec.id, { key, model });
  // A model that could not be loaded is tried again with the next request.
  model.catch(() => models.delete(spec.id));
  return model;
}

/** This file lies in the site's `assets/`. */
function siteUrl(): string {
  return new URL("..", self.location.href).href;
}

function stateOf(model: Model): ModelState {
  const { runtime, threads, rejected, timings, report, memory } = model;
  return { runtime, threads, rejected, timings, report, memory };
}

const handlers: {
  [K in RequestKind]: (argument: Requests[K]["argument"]) => Promise<Requests[K]["result"]>;
} = {
  async prepare({ spec }) {
    return stateOf(await modelOf(spec));
  },
  async classify({ spec, image, count }) {
    try {
      const model = await modelOf(spec);
      const predictions = await model.classify(image, count);
      return { predictions, state: stateOf(model) };
    } finally {
      image.close();
    }
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
  const next = queue.then(async () => self.postMessage(await answer(data)));
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
