/** A loaded model, whatever it is for: runs, times, frees. */
import { type ImageSource, pixelsOf } from "./decode";
import type { Description } from "./description";
import { InferError } from "./errors";
import { fitted, type Preprocessing, type Size } from "./geometry";
import { type Pixels, preprocess } from "./preprocess";
import type { GpuPrecision, Outputs, RuntimeName, Session } from "./runtimes";

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
  /** The latest image: the answer from the outputs. */
  decode: number;
}

/** What a model is made of. */
export interface Parts {
  session: Session;
  description: Description;
  /** The runtimes tried before the one that runs. */
  rejected: readonly Rejection[];
  timings: Timings;
}

/** Every output for an image, and what the image was. */
export interface Look {
  outputs: Outputs;
  /** Height and width. */
  image: Size;
}

/** A loaded model; made by `load`. */
export abstract class Model {
  /** What it is for; its name in descriptions. */
  abstract readonly task: string;
  /** What the file says of itself. */
  readonly description: Description;
  readonly rejected: readonly Rejection[];
  readonly timings: Timings;
  protected readonly preprocessing: Preprocessing;
  private readonly session: Session;

  /** @param resize How an image is resized where it is not as the file says. */
  constructor({ session, description, rejected, timings }: Parts, resize?: Preprocessing["resize"]) {
    const own = description.preprocessing;
    this.session = session;
    this.preprocessing = fitted(resize ? { ...own, resize } : own, description.size);
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

  /** What a graphics processor computes in, where that was chosen. */
  get precision(): GpuPrecision | undefined {
    return this.session.precision;
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
    return (await this.look(image)).outputs;
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

  protected async look(image: ImageSource): Promise<Look> {
    const start = performance.now();
    const pixels: Pixels = await pixelsOf(image);
    const input = preprocess(pixels, this.preprocessing, this.description.size);
    const middle = performance.now();
    const outputs = await this.session.run(input);
    this.timings.preprocess = middle - start;
    this.timings.inference = performance.now() - middle;
    if (!Object.values(outputs).every((values) => values.every(Number.isFinite))) {
      throw new InferError("runtime_failed", "the output is not a number");
    }
    return { outputs, image: [pixels.height, pixels.width] };
  }

  /** Makes an answer of outputs, and notes how long that took. */
  protected decoded<Answer>(decode: () => Answer): Answer {
    const start = performance.now();
    const answer = decode();
    this.timings.decode = performance.now() - start;
    return answer;
  }
}

/** An input for a model that nobody looks at. */
export function zeros({ size: [height, width] }: Description): Float32Array {
  return new Float32Array(height * width * 3);
}
