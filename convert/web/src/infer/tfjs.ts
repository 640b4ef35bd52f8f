/** TensorFlow.js sessions: a graph model on WebAssembly, WebGL or WebGPU. */
import type { GraphModel } from "@tensorflow/tfjs-converter";
import type { Tensor } from "@tensorflow/tfjs-core";
import { InferError, reasonOf } from "./errors";
import type { Session, SessionOptions } from "./runtimes";

type Backend = "wasm" | "webgl" | "webgpu";
type Core = typeof import("@tensorflow/tfjs-core");

/** The parts of `model.json` that are read here; the rest goes to TensorFlow.js as it is. */
export interface ModelJson {
  modelTopology: object;
  weightsManifest: { paths: string[]; weights: WeightSpec[] }[];
  signature?: { outputs?: Readonly<Record<string, { name: string }>> };
  /** What the exporter wrote beside the graph. */
  userDefinedMetadata?: Record<string, unknown>;
}

interface WeightSpec {
  name: string;
  shape: number[];
  dtype: string;
  quantization?: { dtype: string };
}

const BYTES: Readonly<Record<string, number>> = {
  float32: 4,
  int32: 4,
  float16: 2,
  uint16: 2,
  uint8: 1,
  bool: 1,
};

/** Bytes that a group's weights take in its files. */
export function weightBytes(weights: WeightSpec[]): number {
  return weights.reduce((total, { shape, dtype, quantization }) => {
    const size = shape.reduce((product, length) => product * length, 1);
    return total + size * (BYTES[quantization?.dtype ?? dtype] ?? 4);
  }, 0);
}

async function wasmBackend({ assets, threads, way }: SessionOptions): Promise<() => number> {
  const wasm = await import("@tensorflow/tfjs-backend-wasm");
  wasm.setWasmPaths(new URL("tfjs/", assets).href);
  // The backend takes at most one thread for two cores; `getThreadsCount` knows how many.
  wasm.setThreadsCount(Math.min(threads, way.threads ?? threads));
  return () => wasm.getThreadsCount();
}

async function useBackend(backend: Backend, options: SessionOptions): Promise<[Core, number]> {
  const tf = await import("@tensorflow/tfjs-core");
  tf.enableProdMode();
  let threads = () => 0;
  if (backend === "wasm") threads = await wasmBackend(options);
  else if (backend === "webgl") await import("@tensorflow/tfjs-backend-webgl");
  else await import("@tensorflow/tfjs-backend-webgpu");
  if (!(await tf.setBackend(backend))) {
    throw new InferError("runtime_failed", `TensorFlow.js cannot start its ${backend} backend`);
  }
  return [tf, backend === "wasm" ? Math.max(1, threads()) : 0];
}

/** What work gives, or an error where the backend's WebGL context is lost: TensorFlow.js waits for ever. */
async function unlessLost<T>(tf: Core, work: () => Promise<T>): Promise<T> {
  const { gpgpu } = tf.backend() as { gpgpu?: { gl: { canvas: EventTarget; isContextLost(): boolean } } };
  if (!gpgpu) return work();
  const { gl } = gpgpu;
  // A listener of each run's own: a promise of the session's would hold what every run gave.
  let end = () => {};
  const loss = new Promise<never>((_, reject) => {
    end = () => reject(new Error("the graphics context was lost"));
    gl.canvas.addEventListener("webglcontextlost", end, { once: true });
  });
  try {
    if (gl.isContextLost()) end();
    return await Promise.race([loss, work()]);
  } finally {
    gl.canvas.removeEventListener("webglcontextlost", end);
  }
}

/** Compiles a graph model whose files were read already. */
export async function openTfjs(
  json: ModelJson,
  weights: ArrayBuffer[],
  backend: Backend,
  options: SessionOptions,
): Promise<Session> {
  const [tf, threads] = await useBackend(backend, options);
  const { loadGraphModel } = await import("@tensorflow/tfjs-converter");
  const model: GraphModel = await loadGraphModel({
    load: () =>
      Promise.resolve({
        modelTopology: json.modelTopology,
        weightSpecs: json.weightsManifest.flatMap((group) => group.weights) as never,
        weightData: weights,
        signature: json.signature as never,
      }),
  });
  let lost: string | undefined;
  const device = (tf.backend() as { device?: GPUDevice }).device;
  void device?.lost.then((info) => {
    lost = info.message || "the graphics device was lost";
  });
  if (model.inputs.length !== 1) {
    const count = model.inputs.length;
    model.dispose();
    throw new InferError("wrong_task", `there must be one input. Received: ${count}.`);
  }
  // A batch of any size is fed one image.
  const inputShape = (model.inputs[0]!.shape ?? []).map((length, axis) =>
    axis === 0 && !(length > 0) ? 1 : length,
  );
  const inputName = model.inputs[0]!.name;
  // The signature knows the exporter's names, the graph its own.
  const signature = Object.entries(json.signature?.outputs ?? {});
  const outputNames = signature.length > 0
    ? signature.map(([name, tensor]) => [name, tensor.name] as const)
    : model.outputs.map(({ name }) => [name, name] as const);
  return {
    runtime: `tfjs-${backend}`,
    threads,
    inputShape,
    async run(input) {
      if (lost) throw new InferError("runtime_failed", lost);
      if (tf.getBackend() !== backend) await tf.setBackend(backend);
      const tensor = tf.tensor(input, inputShape);
      let outputs: Tensor[] = [];
      try {
        outputs = [model.execute({ [inputName]: tensor }, outputNames.map(([, name]) => name))].flat();
        const values = await unlessLost(tf, () => Promise.all(outputs.map((output) => output.data())));
        return Object.fromEntries(
          values.map((value, index) => [outputNames[index]![0], Float32Array.from(value)]),
        );
      } catch (error) {
        throw new InferError("runtime_failed", lost ?? reasonOf(error));
      } finally {
        tensor.dispose();
        for (const output of outputs) output.dispose();
      }
    },
    memory() {
      const heap = (tf.backend() as { wasm?: { HEAPU8: Uint8Array } }).wasm?.HEAPU8;
      return heap ? heap.buffer.byteLength : tf.memory().numBytes;
    },
    dispose: () => model.dispose(),
  };
}
