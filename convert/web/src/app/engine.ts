/** The page's side of the worker: requests as promises, and a new worker after a crash. */
import type { Failure, Progress, Request, RequestKind, Requests, Response } from "./protocol";
import workerUrl from "./worker?worker&url";

/** A request's failure as an exception. */
export class EngineError extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.name = "EngineError";
    this.failure = failure;
  }
}

/** After these the worker's memory cannot be trusted. */
const FATAL: readonly string[] = ["no_runtime", "runtime_failed", "unexpected"];
/** How long each try to start a worker may take: browsers now and then leave one waiting for ever. */
const START_PATIENCES_MS: readonly number[] = [8000, 16000, 32000];

interface Pending {
  resolve: (value: never) => void;
  reject: (error: EngineError) => void;
}

export class Engine {
  private worker: Worker | undefined;
  private started: Promise<Worker> | undefined;
  private watch = new AbortController();
  private readonly pending = new Map<number, Pending>();
  private next = 0;

  /** @param onProgress Hears how far a model's files have come. */
  constructor(private readonly onProgress: (progress: Progress) => void = () => undefined) {}

  /** Sends a request; a worker is started where none runs. */
  request<K extends RequestKind>(
    kind: K,
    argument: Requests[K]["argument"],
    transfer: Transferable[] = [],
  ): Promise<Requests[K]["result"]> {
    const started = (this.started ??= this.start());
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      started
        .then((worker) => {
          const request: Request<K> = { id, kind, argument };
          if (this.pending.has(id)) worker.postMessage(request, transfer);
        })
        .catch((error: unknown) => {
          // No worker starts, or the argument cannot be sent.
          const failure: Failure = { code: "unexpected", message: messageOf(error), details: {} };
          this.pending.get(id)?.reject(new EngineError(failure));
          this.pending.delete(id);
        });
    });
  }

  /** Ends the worker; what was asked fails, the next request starts another one. */
  stop(message = "stopped"): void {
    this.watch.abort();
    this.worker?.terminate();
    this.worker = this.started = undefined;
    const failure: Failure = { code: "worker_crashed", message, details: {} };
    for (const { reject } of this.pending.values()) reject(new EngineError(failure));
    this.pending.clear();
  }

  private async start(): Promise<Worker> {
    const watch = (this.watch = new AbortController());
    try {
      for (const patience of START_PATIENCES_MS) {
        const name = `worker-${uniqueName()}`;
        const worker = (this.worker = this.create(name));
        const isReady = await firstMessage(worker, patience);
        if (watch.signal.aborted) break;
        if (isReady) {
          void this.awaitEnd(name, worker, watch.signal);
          return worker;
        }
        worker.terminate();
      }
      throw new Error("the worker does not start");
    } catch (error) {
      // Every request that waits for it fails, and the next one tries again.
      if (!watch.signal.aborted) this.stop(messageOf(error));
      throw error;
    }
  }

  private create(name: string): Worker {
    // A worker with an address of its own would be bound by its host's headers alone; this one is
    // bound by the page's policy, which a host without headers cannot set otherwise.
    const address = new URL(workerUrl, import.meta.url).href;
    const script = `import ${JSON.stringify(address)};`;
    const starter = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    const worker = new Worker(starter, { type: "module", name });
    worker.addEventListener("message", () => URL.revokeObjectURL(starter), { once: true });
    worker.addEventListener("message", ({ data }: MessageEvent<Response>) => this.settle(data));
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      if (this.worker === worker) this.stop(event.message || "the worker failed");
    });
    return worker;
  }

  /** Notices a worker that ends without an event: its lock becomes free. */
  private async awaitEnd(name: string, worker: Worker, signal: AbortSignal): Promise<void> {
    if (!navigator.locks) return;
    await navigator.locks.request(name, { signal }, () => undefined).catch(() => undefined);
    if (!signal.aborted && this.worker === worker) this.stop("the worker ended");
  }

  private settle({ id, result, failure, progress }: Response): void {
    if (progress) return this.onProgress(progress);
    const pending = this.pending.get(id);
    this.pending.delete(id);
    if (!failure) {
      pending?.resolve(result as never);
      return;
    }
    pending?.reject(new EngineError(failure));
    if (FATAL.includes(failure.code)) this.stop(failure.message);
  }
}

/** Names the worker's lock. Not `randomUUID`, which plain http has not. */
function uniqueName(): string {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(36)).join("-");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether the worker's first message, which says that it runs, comes in time. */
function firstMessage(worker: Worker, patience: number): Promise<boolean> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(false), patience);
    worker.addEventListener("message", () => resolve(true), { once: true });
  });
}
