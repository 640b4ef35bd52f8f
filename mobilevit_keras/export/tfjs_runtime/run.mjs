// Runs a TF.js graph model: float32 images on standard input, answers on standard output.
//
//   node run.mjs MODEL_DIRECTORY BACKEND < images
//
// Images are read one after another until the input ends. Each is answered by one JSON line, the
// milliseconds of the inference and the shapes of the outputs by name, and their float32 values in
// that order.

import { readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";

const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs-core");
const { loadGraphModel } = require("@tensorflow/tfjs-converter");

const [directory, backend] = process.argv.slice(2);
// What libraries print must not come between the answers.
console.log = console.info = console.debug = console.error;
if (backend === "wasm") {
  const wasm = require("@tensorflow/tfjs-backend-wasm");
  wasm.setWasmPaths(dirname(require.resolve("@tensorflow/tfjs-backend-wasm")) + sep);
} else {
  require("@tensorflow/tfjs-backend-cpu");
}
if (!(await tf.setBackend(backend))) {
  throw new Error(`The backend ${backend} does not start.`);
}

const description = JSON.parse(readFileSync(join(directory, "model.json"), "utf8"));
const shards = description.weightsManifest.flatMap((group) => group.paths);
const model = await loadGraphModel(
  tf.io.fromMemory({
    modelTopology: description.modelTopology,
    signature: description.signature,
    weightSpecs: description.weightsManifest.flatMap((group) => group.weights),
    weightData: await new Blob(shards.map((path) => readFileSync(join(directory, path)))).arrayBuffer(),
  }),
);
const [input] = model.inputs;
const values = input.shape.reduce((product, side) => product * side, 1);
const outputs = Object.entries(description.signature.outputs);
const nodes = outputs.map(([, { name }]) => name);

function write(bytes) {
  // A pipe takes what fits.
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(1, bytes, written);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

async function infer(image) {
  const tensor = tf.tensor(image, input.shape, "float32");
  const start = performance.now();
  // One output comes bare.
  const results = [model.execute({ [input.name]: tensor }, nodes)].flat();
  const answers = await Promise.all(results.map((result) => result.data()));
  const milliseconds = performance.now() - start;
  const shapes = outputs.map(([name], index) => [name, results[index].shape]);
  write(Buffer.from(JSON.stringify({ milliseconds, outputs: Object.fromEntries(shapes) }) + "\n"));
  for (const answer of answers) {
    const floats = Float32Array.from(answer);
    write(new Uint8Array(floats.buffer));
  }
  tf.dispose([tensor, ...results]);
}

const image = new Float32Array(values);
const bytes = new Uint8Array(image.buffer);
let filled = 0;
for await (const chunk of process.stdin) {
  let used = 0;
  while (used < chunk.length) {
    const taken = Math.min(chunk.length - used, bytes.length - filled);
    bytes.set(chunk.subarray(used, used + taken), filled);
    used += taken;
    filled += taken;
    if (filled === bytes.length) {
      await infer(image);
      filled = 0;
    }
  }
}
if (filled > 0) {
  throw new Error(`The input ends within an image of ${bytes.length} bytes.`);
}
