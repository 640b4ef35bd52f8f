/**
 * Which runtime is the fastest here: each way to run a model computes a few frames in a worker of
 * its own, while the page rests. Knows neither the document nor the worker; both are handed in.
 */
import type { Way } from "../../infer";

/** What was measured of one way: a time, or why there is none. */
export interface Measurement {
  way: Way;
  /** Of the model alone, the middle of some frames. */
  milliseconds?: number;
  reason?: string;
}

/** One frame. */
export interface Frame<Answer> {
  answer: Answer;
  milliseconds: number;
  /** What has run, in full. */
  way: Way;
}

/** A model in a worker of its own. */
export interface Trial<Answer> {
  run(image: Blob): Promise<Frame<Answer>>;
  /** Ends the worker; what runs fails. */
  end(): void;
}

/** What may be tried, and what is not even tried. */
export interface Candidates {
  /** The first one's answer is what the others' must be. */
  ways: readonly Way[];
  /** With reasons. */
  others: readonly Measurement[];
}

export interface Ports<Model, Answer> {
  candidates(model: Model): Promise<Candidates>;
  open(model: Model, way: Way): Trial<Answer>;
  isSame(first: Answer, other: Answer): boolean;
  /** What to say of a way that has failed; undefined where its answer is another. */
  reason(error?: unknown): string;
  /** Whether a failure may be of this moment alone, as without a connection. */
  isPassing(error: unknown): boolean;
  /** What was found of a model, the fastest first, and whether it may be remembered. */
  found(model: Model, measurements: readonly Measurement[], lasts: boolean): Promise<void>;
  now(): number;
}

/** The page must have rested so long. */
export const REST_MS = 1000;
/** Frames that are timed, after one that is not; fewer where they take long. */
const FRAMES = 5;
const LEAST_FRAMES = 2;
const BUDGET_MS = 1500;
/** A way that takes longer is none. */
const PATIENCE_MS = 30_000;

/** The order of what was measured; what has no time stands last. */
function faster({ milliseconds: a }: Measurement, { milliseconds: b }: Measurement): number {
  return a === undefined || b === undefined ? Number(a === undefined) - Number(b === undefined) : a - b;
}

interface Task<Model, Answer> {
  model: Model;
  image: Blob;
  done: Measurement[];
  first?: Answer;
  lasts: boolean;
}

export class Measuring<Model, Answer> {
  private readonly tasks = new Map<Model, Task<Model, Answer>>();
  /** Whatever comes back after the page has gone on is dropped, and measured again. */
  private turn = 0;
  private trial: Trial<Answer> | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private rests = false;

  constructor(private readonly ports: Ports<Model, Answer>) {}

  /** Whether a model waits for its turn. */
  awaits(model: Model): boolean {
    return this.tasks.has(model);
  }

  /** Asks for a model to be measured with this image. */
  add(model: Model, image: Blob): void {
    this.tasks.set(model, { model, image, done: [], lasts: true });
    this.begin();
  }

  /** Measures these models no more. */
  keepOnly(models: readonly Model[]): void {
    for (const model of [...this.tasks.keys()]) if (!models.includes(model)) this.tasks.delete(model);
    this.begin();
  }

  /** Whether the page computes nothing; what is measured while it does is worth nothing. */
  rest(rests: boolean): void {
    this.rests = rests;
    this.begin();
  }

  private begin(): void {
    const turn = ++this.turn;
    this.trial?.end();
    clearTimeout(this.timer);
    if (!this.rests || this.tasks.size === 0) return;
    this.timer = setTimeout(() => void this.work(turn), REST_MS);
  }

  private async work(turn: number): Promise<void> {
    for (const task of [...this.tasks.values()]) {
      const candidates = await this.ports.candidates(task.model).catch(() => null);
      if (turn !== this.turn) return;
      if (!candidates) {
        // The model has failed meanwhile; its next answer asks again.
        this.tasks.delete(task.model);
        continue;
      }
      const { ways, others } = candidates;
      // With one way there is nothing to choose.
      const hasChoice = ways.length > 1;
      const left = hasChoice ? ways.slice(task.done.length) : [];
      for (const way of left) {
        if (turn !== this.turn) return;
        const measured = await this.measure(task, way);
        if (turn !== this.turn) return;
        task.done.push(measured);
      }
      if (turn !== this.turn) return;
      this.tasks.delete(task.model);
      const found = hasChoice ? [...task.done.sort(faster), ...others] : [];
      await this.ports.found(task.model, found, hasChoice && task.lasts);
    }
  }

  private async measure(task: Task<Model, Answer>, way: Way): Promise<Measurement> {
    const { ports } = this;
    const trial = (this.trial = ports.open(task.model, way));
    const patience = setTimeout(() => trial.end(), PATIENCE_MS);
    try {
      const warm = await trial.run(task.image);
      task.first ??= warm.answer;
      if (!ports.isSame(task.first, warm.answer)) return { way: warm.way, reason: ports.reason() };
      const times: number[] = [];
      const start = ports.now();
      while (times.length < FRAMES) {
        times.push((await trial.run(task.image)).milliseconds);
        if (times.length >= LEAST_FRAMES && ports.now() - start > BUDGET_MS) break;
      }
      times.sort((a, b) => a - b);
      return { way: warm.way, milliseconds: times[times.length >> 1]! };
    } catch (error) {
      task.lasts &&= !ports.isPassing(error);
      return { way, reason: ports.reason(error) };
    } finally {
      clearTimeout(patience);
      trial.end();
      this.trial = undefined;
    }
  }
}
