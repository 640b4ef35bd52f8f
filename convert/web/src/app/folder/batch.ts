/**
 * Classifies a folder's images, one after the other, by one model after the other: there is never
 * more than one image decoded. Knows neither the document nor the worker; both are handed in.
 */
import type { Entry } from "./entries";
import { type Row, truthOf, type Unread } from "./rows";

/** What a model says of an image. */
export type Found = Pick<Row, "label" | "probability" | "milliseconds">;

export interface View {
  /** A run through this many files begins; what an earlier one showed goes. */
  begin(count: number): void;
  row(row: Row): void;
  unread(unread: Unread): void;
  /** This many files are done. */
  progress(done: number): void;
  /** The run has come to its end, or was stopped. */
  end(stopped: boolean): void;
  complain(error: unknown): void;
}

export interface Ports<Model> {
  view: View;
  /** Loads a model; gives the names of its classes. */
  open(model: Model): Promise<readonly string[]>;
  /** Why a file is not even tried, or null. */
  obstacle(file: File): Promise<string | null>;
  /** `key` names the image, `last` says that no further model needs it. */
  ask(model: Model, file: File, key: number, last: boolean): Promise<Found>;
  /** What to say of a file where `ask` has failed. */
  reason(error: unknown): string;
  /** Whether it has failed because of the image, so that the next one may be tried. */
  isOfImage(error: unknown): boolean;
}

/** Failures in a row that are not the images' after which the next one would fail as well. */
const MAX_FAILURES = 2;

export class Batch<Model extends Row["model"]> {
  /** Whatever comes back after another run has begun is dropped. */
  private turn = 0;
  private running = false;
  /** The page's own images have positive numbers. */
  private keys = 0;

  constructor(private readonly ports: Ports<Model>) {}

  get isRunning(): boolean {
    return this.running;
  }

  async run(entries: readonly Entry[], models: readonly Model[]): Promise<void> {
    const turn = ++this.turn;
    const { view } = this.ports;
    this.running = true;
    view.begin(entries.length);
    try {
      const opened = await this.opened(turn, models);
      let failures = 0;
      for (const [index, entry] of entries.entries()) {
        if (turn !== this.turn || opened.size === 0) break;
        try {
          await this.look(turn, entry, opened);
          failures = 0;
        } catch (error) {
          if (turn !== this.turn) break;
          view.unread({ path: entry.path, reason: this.ports.reason(error) });
          failures = this.ports.isOfImage(error) ? 0 : failures + 1;
          if (failures === MAX_FAILURES) throw error;
        }
        if (turn === this.turn) view.progress(index + 1);
      }
      if (turn === this.turn) this.end(opened.size === 0);
    } catch (error) {
      if (turn !== this.turn) return;
      this.end(true);
      view.complain(error);
    }
  }

  /** Ends a run; what it has found stays. */
  stop(): void {
    if (!this.running) return;
    this.turn++;
    this.end(true);
  }

  private end(stopped: boolean): void {
    this.running = false;
    this.ports.view.end(stopped);
  }

  /** The models that can be loaded, with their classes' names; the others say why not. */
  private async opened(turn: number, models: readonly Model[]): Promise<Map<Model, readonly string[]>> {
    const found = new Map<Model, readonly string[]>();
    for (const model of models) {
      try {
        found.set(model, await this.ports.open(model));
      } catch (error) {
        if (turn === this.turn) this.ports.view.complain(error);
      }
      if (turn !== this.turn) break;
    }
    return found;
  }

  private async look(
    turn: number,
    { path, file }: Entry,
    models: ReadonlyMap<Model, readonly string[]>,
  ): Promise<void> {
    const { view } = this.ports;
    const reason = await this.ports.obstacle(file);
    if (turn !== this.turn) return;
    if (reason !== null) return view.unread({ path, reason });
    const key = --this.keys;
    let left = models.size;
    for (const [model, classNames] of models) {
      const found = await this.ports.ask(model, file, key, --left === 0);
      if (turn !== this.turn) return;
      const { name, title } = model;
      view.row({ path, model: { name, title }, truth: truthOf(path, classNames), ...found });
    }
  }
}
