/** Models side by side: agreement, speed, and why one is slower. */
import assert from "node:assert/strict";
import test from "node:test";
import { comparison, type Side } from "../src/app/comparison";
import type { Answer, ModelState } from "../src/app/protocol";
import type { SiteModel, Summary } from "../src/app/site";

const timings = { load: 0, firstRun: 0, preprocess: 0, inference: 0, decode: 0 };

interface Choice {
  label?: string;
  milliseconds: number;
  state?: Partial<ModelState>;
  report?: Partial<Summary>;
}

function side(title: string, { label = "cat", milliseconds, state, report }: Choice): Side {
  const summary = { task: "classification", variant: "", precision: "float32", size: [256, 256], parameters: 1000, ...report };
  const model = { id: title, title, files: {}, reports: { tflite: summary, tfjs: summary } } as unknown as SiteModel;
  const running: ModelState = { runtime: "litert-wasm", threads: 2, rejected: [], timings, memory: 0, ...state };
  const found = { predictions: [{ index: 0, label, probability: 1 }], shown: [1, 1] as const };
  return { model, milliseconds, answer: { task: "classification", found, state: running } as Answer };
}

test("the same class, as fast", () => {
  const lines = comparison(side("A", { milliseconds: 10 }), side("B", { milliseconds: 10.2 }));
  assert.deepEqual(lines, ["Same class as the first model.", "As fast as the first."]);
});

test("an int8 file is faster than the float one", () => {
  const first = side("A", { milliseconds: 30 });
  const other = side("B", { milliseconds: 12, label: "dog", report: { precision: "int8" } });
  assert.deepEqual(comparison(first, other), [
    "Another class than the first model.",
    "2.5 times as fast as the first.",
    "The first is slower: it computes in floating point, the other in 8-bit integers.",
  ]);
  assert.deepEqual(comparison(other, first).slice(1), [
    "The first is 2.5 times as fast.",
    "This one is slower: it computes in floating point, the other in 8-bit integers.",
  ]);
});

test("what runs explains it: one thread, another runtime, no graphics processor", () => {
  const first = side("A", { milliseconds: 10 });
  const reason = (state: Partial<ModelState>, its: Partial<ModelState> = {}) =>
    comparison(side("A", { milliseconds: 10, state: its }), side("B", { milliseconds: 20, state }))[2];
  assert.equal(reason({ threads: 1 }), "This one is slower: it runs on 1 thread, the other on 2.");
  assert.match(reason({ runtime: "tfjs-wasm" })!, /TensorFlow\.js/);
  const rejected = [{ runtime: "litert-webgpu" as const, reason: "the graphics device was lost" }];
  assert.match(reason({ rejected }, { runtime: "litert-webgpu", threads: 0 })!, /\(the graphics device was lost\)/);
  const [fp16, fp32] = [{ precision: "fp16" as const }, { precision: "fp32" as const }];
  const gpu = { runtime: "litert-webgpu" as const, threads: 0 };
  assert.match(reason({ ...gpu, ...fp32 }, { ...gpu, ...fp16 })!, /full precision, the other in half/);
  assert.equal(comparison(first, side("B", { milliseconds: 20 })).length, 2, "nothing is made up");
});

test("what the files are explains it: pixels, parameters, tasks", () => {
  const first = side("A", { milliseconds: 10 });
  const larger = { size: [512, 256] as const, parameters: 5_000_000 };
  assert.equal(
    comparison(first, side("B", { milliseconds: 40, report: larger }))[2],
    "This one is slower: it looks at 512 × 256 pixels, the other at 256 × 256 pixels; " +
      "it is larger, 5,000,000 parameters against 1,000.",
  );
  const other = side("B", { milliseconds: 40, report: { task: "detection" } });
  other.answer = { task: "detection", found: { objects: [], width: 1, height: 1 }, state: other.answer.state };
  assert.deepEqual(comparison(first, other), [
    "The first is 4.0 times as fast.",
    "This one is slower: it is asked for something else.",
  ]);
});

test("what was measured while the page rested counts more than a run that was disturbed", () => {
  const first = { ...side("A", { milliseconds: 60, state: { threads: 1 } }), measured: 4 };
  const other = { ...side("B", { milliseconds: 10 }), measured: 2 };
  assert.deepEqual(comparison(first, other).slice(1), ["2.0 times as fast as the first, as measured."], "one thread is its best");
  assert.match(comparison(first, side("B", { milliseconds: 10 }))[1]!, /^6\.0 times/, "both or none");
});
