/** LiteRT.js sessions: a `.tflite` file on WebAssembly (XNNPACK) or WebGPU. */
import type { CompiledModel, LiteRt } from "@litertjs/core";
import { InferError, reasonOf } from "./errors";
import { countBytes } from "./progress";
import type { Session, SessionOptions } from "./runtimes";

type Scope = typeof globalThis & {
  importScripts?: unknown;
  Module?: unknown;
  ModuleFactory?: unknown;
};

interface Loaded {
  core: typeof import("@litertjs/core");
  runtime: LiteRt;
  threads: number;
}

let loading: Promise<Loaded> | undefined;
let log: string[] = [];

/** LiteRT.js names its builds after what they need from the browser. */
function buildName(relaxedSimd: boolean, threads: number): string {
  if (!relaxedSimd) return "litert_wasm_compat_internal";
  return threads > 1 ? "litert_wasm_threaded_internal" : "litert_wasm_internal";
}

/** Tells how far a file has come whose address ends so, as the loader fetches it. */
function reportFetch(ending: string, onProgress: NonNullable<SessionOptions["onProgress"]>): () => void {
  const original = globalThis.fetch;
  globalThis.fetch = async (input, init) => {
    const response = await original(input, init);
    if (response.url.endsWith(ending) && response.body) {
      void countBytes(response.clone().body!, response.headers, onProgress);
    }
    // The loader gets the response itself, which a browser may compile as it comes.
    return response;
  };
  return () => {
    globalThis.fetch = original;
  };
}

async function start({ assets, threads: wanted, onProgress }: SessionOptions): Promise<Loaded> {
  const core = await import("@litertjs/core");
  const relaxedSimd = await core.supportsFeature("relaxedSimd");
  const threads = relaxedSimd && globalThis.crossOriginIsolated ? wanted : 1;
  const folder = new URL("litert/", assets).href;
  const build = buildName(relaxedSimd, threads);
  const scope = globalThis as Scope;
  // LiteRT.js fetches its loader with `importScripts` or a script element; a module worker has
  // neither. The loader is imported as a module here, and the fetch becomes a step without effect.
  const loader = (await import(/* @vite-ignore */ `${folder}${build}.mjs`)) as {
    default: unknown;
  };
  scope.ModuleFactory = loader.default;
  scope.Module = {
    locateFile: (path: string) => folder + path,
    mainScriptUrlOrBlob: `${folder}${build}.js`,
    print: (line: string) => log.push(line),
    printErr: (line: string) => log.push(line),
  };
  const original = scope.importScripts;
  scope.importScripts = () => undefined;
  // LiteRT.js calls the global object so, which Node does not.
  const isBare = typeof self === "undefined";
  if (isBare) Object.assign(globalThis, { self: globalThis });
  const restore = onProgress ? reportFetch(`${build}.wasm`, onProgress) : () => undefined;
  try {
    const runtime = await core.loadLiteRt(folder, { threads: threads > 1 });
    return { core, runtime, threads };
  } finally {
    scope.importScripts = original;
    if (isBare) Reflect.deleteProperty(globalThis, "self");
    restore();
  }
}

/**
 * Compiles a `.tflite` file.
 *
 * @throws InferError `runtime_failed` where the accelerator does not take the model.
 */
export async function openLiteRt(
  bytes: Uint8Array,
  accelerator: "wasm" | "webgpu",
  options: SessionOptions,
): Promise<Session> {
  loading ??= start(options).catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  const { core, runtime, threads } = await loading;
  const { precision = "fp32" } = options.way;
  const count = Math.min(threads, options.threads, options.way.threads ?? threads);
  let lost: string | undefined;
  if (accelerator === "webgpu") {
    const device = core.getWebGpuDevice();
    if (!device) throw new InferError("runtime_failed", "WebGPU finds no graphics processor");
    void device.lost.then((info) => {
      lost = info.message || "the graphics device was lost";
    });
  }
  log = [];
  const model: CompiledModel = await runtime.loadAndCompile(bytes, {
    accelerator,
    cpuOptions: { numThreads: count },
    gpuOptions: { precision },
  });
  // `isFullyAccelerated` is true even where operations were refused; the log tells.
  const refused = log.find((line) => line.includes("not supported by GPU delegate"));
  if (accelerator === "webgpu" && refused) {
    model.delete();
    throw new InferError("runtime_failed", "WebGPU does not take every operation of this model");
  }
  const inputs = model.getInputDetails();
  const outputs = model.getOutputDetails();
  const types = [...inputs, ...outputs].map(({ dtype }) => dtype);
  const [type, ...rest] = types;
  const isTaken = inputs.length === 1 && (type === "float32" || type === "uint8");
  if (!isTaken || !rest.every((dtype) => dtype === "float32")) {
    model.delete();
    throw new InferError(
      "wrong_task",
      "there must be one input of float32 or uint8, and outputs of float32. " +
        `Received: ${inputs.length} of ${types.join(", ")}.`,
    );
  }
  const inputShape = [...inputs[0]!.shape];
  return {
    runtime: accelerator === "webgpu" ? "litert-webgpu" : "litert-wasm",
    threads: accelerator === "webgpu" ? 0 : count,
    ...(accelerator === "webgpu" && { precision }),
    inputShape,
    async run(input) {
      if (lost) throw new InferError("runtime_failed", lost);
      const values = type === "uint8" ? Uint8Array.from(input, Math.round) : input;
      const host = new core.Tensor(values, inputShape);
      const tensor = accelerator === "webgpu" ? await host.moveTo("webgpu") : host;
      try {
        const results = await model.run(tensor);
        const found: Record<string, Float32Array> = {};
        for (const [index, result] of results.entries()) {
          const read = accelerator === "webgpu" ? await result.moveTo("wasm") : result;
          found[outputs[index]!.name] = Float32Array.from(read.toTypedArray());
          read.delete();
        }
        return found;
      } catch (error) {
        throw new InferError("runtime_failed", lost ?? reasonOf(error));
      } finally {
        tensor.delete();
      }
    },
    memory: () =>
      (runtime.liteRtWasm as unknown as { HEAPU8: Uint8Array }).HEAPU8.buffer.byteLength,
    dispose: () => model.delete(),
  };
}
