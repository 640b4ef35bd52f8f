/** The runtimes that can run an exported model, and what each needs from the browser. */
import type { OnProgress } from "./progress";

export type RuntimeName =
  | "litert-wasm"
  | "litert-webgpu"
  | "tfjs-wasm"
  | "tfjs-webgl"
  | "tfjs-webgpu";

/** What LiteRT.js computes in on a graphics processor. */
export type GpuPrecision = "fp16" | "fp32";

/** A runtime, and how it is used where that can be chosen. */
export interface Way {
  readonly runtime: RuntimeName;
  /** WebAssembly threads at most; as many as pay where it is absent. */
  readonly threads?: number;
  /** Of "litert-webgpu" alone; "fp32" where it is absent. */
  readonly precision?: GpuPrecision;
}

export type Format = "tflite" | "tfjs";

/**
 * Every runtime, the automatic choice's order: a graphics processor first where there is a real
 * one, then WebAssembly; LiteRT.js before TensorFlow.js, since it runs the same model several
 * times as fast.
 */
export const RUNTIMES: readonly RuntimeName[] = [
  "litert-webgpu",
  "litert-wasm",
  "tfjs-webgpu",
  "tfjs-webgl",
  "tfjs-wasm",
];

/** What runs, in full. */
export type Running = Pick<Session, "runtime" | "threads" | "precision">;

/** How something runs, as it can be asked for again. */
export function wayOf({ runtime, threads, precision }: Running): Way {
  return { runtime, ...(threads > 0 && { threads }), ...(precision && { precision }) };
}

/** Whether something runs so. */
export function isWay(running: Running, way: Way): boolean {
  const own = wayOf(running);
  return own.runtime === way.runtime && own.threads === way.threads && own.precision === way.precision;
}

/** Graphics drivers that compute on the processor. */
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;

/** The model format that a runtime reads. */
export function formatOf(runtime: RuntimeName): Format {
  return runtime.startsWith("litert") ? "tflite" : "tfjs";
}

/** A model's outputs for one image, flattened, by name. */
export type Outputs = Readonly<Record<string, Float32Array>>;

/** A compiled model inside one runtime. */
export interface Session {
  readonly runtime: RuntimeName;
  /** Threads of the WebAssembly build; 0 where a graphics processor computes. */
  readonly threads: number;
  /** Of "litert-webgpu" alone. */
  readonly precision?: GpuPrecision;
  readonly inputShape: readonly number[];
  /** Computes every output for one input. */
  run(input: Float32Array): Promise<Outputs>;
  /** Bytes that the runtime holds now, for all its models. */
  memory(): number;
  dispose(): void;
}

export interface SessionOptions {
  /** Folder with the runtimes' WebAssembly files; ends with a slash. */
  assets: string;
  /** Threads of the runtime; more than one needs a cross-origin isolated page. */
  threads: number;
  way: Way;
  /** Hears how far the runtime's own file has come. */
  onProgress?: OnProgress;
}

/** Threads that pay for a model of this size: small layers do not spread further. */
export function defaultThreads(): number {
  if (!globalThis.crossOriginIsolated) return 1;
  return Math.max(1, Math.min(4, navigator.hardwareConcurrency || 1));
}

/**
 * Why the automatic choice passes over a runtime in this browser, or null.
 *
 * A software WebGPU adapter or WebGL renderer works, but is slower than WebAssembly: it is left to
 * those who choose it by name.
 */
export async function unsuitable(runtime: RuntimeName): Promise<string | null> {
  if (typeof WebAssembly === "undefined") return "the browser has no WebAssembly";
  if (runtime.endsWith("webgpu")) {
    // Node 20 has no navigator.
    if (!globalThis.navigator?.gpu) return "the browser has no WebGPU";
    const adapter = await navigator.gpu.requestAdapter().catch(() => null);
    if (!adapter) return "WebGPU finds no graphics processor";
    const { isFallbackAdapter, description, architecture } = adapter.info;
    if (isFallbackAdapter || SOFTWARE.test(`${description} ${architecture}`)) {
      return "WebGPU runs in software here";
    }
  }
  if (runtime.endsWith("webgl")) {
    const context = typeof OffscreenCanvas === "undefined"
      ? null
      : new OffscreenCanvas(1, 1).getContext("webgl2");
    if (!context) return "the browser has no WebGL 2 in a worker";
    const info = context.getExtension("WEBGL_debug_renderer_info");
    const renderer = info ? String(context.getParameter(info.UNMASKED_RENDERER_WEBGL)) : "";
    context.getExtension("WEBGL_lose_context")?.loseContext();
    if (SOFTWARE.test(renderer)) return "WebGL runs in software here";
  }
  return null;
}
