// Runs a TF.js graph model: float32 images on standard input, probabilities into a file.
//
//   node run.mjs MODEL_DIRECTORY OUTPUT_FILE BACKEND < images
//
// Images are read one after another until the input ends, so that a whole validation set passes
// through without being held. Prints one JSON line: milliseconds of each inference, versions.

import { readFileSync, closeSync, openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";

const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs-core");
const { loadGraphModel } = require("@tensorflow/tfjs-converter");

const [directory, outputFile, backend] = process.argv.slice(2);
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
const [output] = model.outputs;
const values = input.shape.reduce((product, side) => product * side, 1);

const milliseconds = [];
const file = openSync(outputFile, "w");
async function infer(image) {
  const tensor = tf.tensor(image, input.shape, "float32");
  const start = performance.now();
  const result = model.execute({ [input.name]: tensor }, output.name);
  const probabilities = await result.data();
  milliseconds.push(performance.now() - start);
  writeSync(file, new Uint8Array(probabilities.buffer, probabilities.byteOffset, probabilities.byteLength));
  tf.dispose([tensor, result]);
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
closeSync(file);
if (filled > 0) {
  throw new Error(`The input ends within an image of ${bytes.length} bytes.`);
}
console.log(JSON.stringify({ milliseconds, tfjs: tf.version_core, backend: tf.getBackend() }));
