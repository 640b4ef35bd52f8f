/** "Automatic": measured once on this device, remembered, and said in words. */
import {
  defaultThreads,
  formatOf,
  isWay,
  type Running,
  RUNTIMES,
  type RuntimeName,
  type Way,
  wayOf,
} from "../../infer";
import { isSame } from "../agreement";
import { make } from "../dom";
import { Engine, EngineError } from "../engine";
import type { Answer, ModelSpec } from "../protocol";
import { runtimeText } from "../results";
import type { SiteModel } from "../site";
import { text } from "../text";
import workerUrl from "../worker?worker&url";
import { deviceStorage, Memory } from "./kept";
import { type Candidates, type Measurement, Measuring, type Trial } from "./measuring";

/** Height and width of the masks that are compared. */
const COMPARED = [256, 256] as const;

/** The part of the page that it needs. */
export interface Page {
  engine: Engine;
  /** How a model is asked for where nothing is measured. */
  specOf(model: SiteModel): ModelSpec;
  /** What was measured of a model has changed. */
  changed(model: SiteModel): Promise<void>;
}

/** A model's file: its folder's name has its hash; of a given file, what the browser says of it. */
function fileOf({ id, file }: SiteModel): string {
  return file ? `${file.name} ${file.size} ${file.lastModified}` : id;
}

/** Whether somebody wants nothing loaded that could be done without. */
function savesData(): boolean {
  return (navigator as { connection?: { saveData?: boolean } }).connection?.saveData ?? false;
}

/** Ways of every runtime that this browser may have, the usual one of each first. */
function waysOf(runtime: RuntimeName): Way[] {
  if (runtime === "litert-webgpu") return [{ runtime, precision: "fp32" }, { runtime, precision: "fp16" }];
  if (runtime === "litert-wasm" && defaultThreads() > 1) return [{ runtime }, { runtime, threads: 1 }];
  return [{ runtime }];
}

export class Automatic {
  private readonly memory: Memory;
  private readonly measuring: Measuring<SiteModel, Answer>;

  constructor(private readonly page: Page) {
    const path = new URL(".", document.baseURI).pathname;
    // The worker's address has a hash of all that computes in it.
    const version = `${new URL(workerUrl, document.baseURI).pathname} ${navigator.userAgent}`;
    this.memory = new Memory(deviceStorage(), `mobilevit:${encodeURIComponent(path)}:measured`, version);
    this.measuring = new Measuring<SiteModel, Answer>({
      candidates: (model) => this.candidates(model),
      open: (model, way) => this.open(model, way),
      isSame,
      reason: reasonOf,
      isPassing: (error) =>
        error instanceof EngineError && ["not_found", "truncated"].includes(error.failure.code),
      found: async (model, measurements, lasts) => {
        this.memory.set(fileOf(model), measurements, lasts);
        await page.changed(model);
      },
      now: () => performance.now(),
    });
  }

  /** The ways that work, the fastest first; undefined where they were not measured. */
  ways(model: SiteModel): readonly Way[] | undefined {
    const found = this.memory.get(fileOf(model))?.filter(({ milliseconds }) => milliseconds !== undefined);
    return found && found.length > 0 ? found.map(({ way }) => way) : undefined;
  }

  /** What was measured of what runs. */
  milliseconds(model: SiteModel, running: Running): number | undefined {
    return this.memory.get(fileOf(model))?.find(({ way }) => isWay(running, way))?.milliseconds;
  }

  /** An answer has come: with its image the model is measured, once, while the page rests. */
  answered(model: SiteModel, image: Blob | ImageBitmap): void {
    if (this.memory.get(fileOf(model)) || this.measuring.awaits(model) || savesData()) return;
    if (image instanceof Blob) this.measuring.add(model, image);
    else void copyOf(image).then((copy) => this.measuring.add(model, copy)).catch(() => undefined);
  }

  /** Whether the page computes nothing. */
  rest(rests: boolean): void {
    this.measuring.rest(rests);
  }

  /** Only these are still of interest. */
  keepOnly(models: readonly SiteModel[]): void {
    this.measuring.keepOnly(models);
  }

  /** What is known of a model, in words; null where nothing is. `again` measures anew. */
  words(model: SiteModel, again: () => void): HTMLElement | null {
    if (this.measuring.awaits(model)) return make("p", {}, text.measuring);
    const found = this.memory.get(fileOf(model));
    if (!found || found.length === 0) return null;
    const rows = found.map((one) => make("li", {}, wordsOf(one)));
    const button = make("button", { class: "link", type: "button" }, text.measureAgain);
    button.addEventListener("click", again);
    const list = make("ul", {}, ...rows);
    return make("details", {}, make("summary", {}, text.measured), list, button);
  }

  /** Forgets what was measured of a model. */
  forget(model: SiteModel): void {
    this.memory.forget(fileOf(model));
  }

  private async candidates(model: SiteModel): Promise<Candidates> {
    const { engine, specOf } = this.page;
    const { rejected } = await engine.request("prepare", { spec: specOf(model) });
    const obstacles = await engine.request("obstacles", {});
    const out = new Map([...obstacles, ...rejected].map(({ runtime, reason }) => [runtime, reason]));
    const has = (runtime: RuntimeName) =>
      model.file ? formatOf(runtime) === "tflite" : model.files[formatOf(runtime)] !== undefined;
    // WebAssembly computes alike everywhere: its answer is the one to be found.
    const isUsual = (runtime: RuntimeName) => Number(runtime.endsWith("wasm"));
    return {
      ways: RUNTIMES.filter((runtime) => has(runtime) && !out.has(runtime))
        .sort((a, b) => isUsual(b) - isUsual(a))
        .flatMap(waysOf),
      others: [...out].map(([runtime, reason]) => ({ way: { runtime }, reason })),
    };
  }

  private open(model: SiteModel, way: Way): Trial<Answer> {
    const engine = new Engine();
    const spec: ModelSpec = { ...this.page.specOf(model), runtime: [way] };
    return {
      async run(image) {
        const answer = await engine.request("predict", { spec, image, shown: COMPARED, key: 1, last: false });
        const { timings, ...running } = answer.state;
        return { answer, milliseconds: timings.inference, way: wayOf(running) };
      },
      end: () => engine.stop(),
    };
  }
}

async function copyOf(image: ImageBitmap): Promise<Blob> {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d")!.drawImage(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Why a way is not used, from what `Measuring` says of it. */
function reasonOf(error?: unknown): string {
  if (error === undefined) return text.measuredOther;
  if (!(error instanceof EngineError)) return String(error);
  const { code, details, message } = error.failure;
  if (code === "worker_crashed") return text.measuredSlow;
  // "litert-webgpu: the graphics device was lost"
  return code === "no_runtime" ? (details.reasons ?? message).replace(/^[\w-]+: /, "") : message;
}

function wordsOf({ way, milliseconds, reason }: Measurement): string {
  const name = runtimeText(way);
  return milliseconds === undefined
    ? text.notUsedBecause(name, reason!)
    : text.measuredTime(name, text.milliseconds(milliseconds));
}
