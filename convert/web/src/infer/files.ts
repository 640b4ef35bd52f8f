/** Reads a model's files: the model, its report and its class names. */
import { InferError } from "./errors";
import type { Preprocessing } from "./preprocess";
import type { Format } from "./runtimes";
import { type ModelJson, weightBytes } from "./tfjs";

/** What the exporter measured and wrote beside the model; unknown fields are kept. */
export interface Report {
  format: Format;
  file?: string;
  variant: string;
  num_classes: number;
  size: [number, number];
  precision: string;
  bytes?: number;
  parameters?: number;
  preprocessing: Preprocessing;
  parity?: { images: number; max_abs_difference: number; top1_agreement: number };
  accuracy?: { top1: number; top5: number; images: number } | null;
  [field: string]: unknown;
}

export interface TfliteFiles {
  format: "tflite";
  bytes: Uint8Array;
}

export interface TfjsFiles {
  format: "tfjs";
  json: ModelJson;
  weights: ArrayBuffer[];
}

export type ModelFiles = TfliteFiles | TfjsFiles;

const TFLITE_IDENTIFIER = "TFL3";

async function get(url: string): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new InferError("not_found", `${url} cannot be read: ${String(error)}`, { file: url });
  }
  if (!response.ok) {
    throw new InferError("not_found", `${url} cannot be read: status ${response.status}.`, {
      file: url,
    });
  }
  return response;
}

async function getBytes(url: string): Promise<ArrayBuffer> {
  const response = await get(url);
  try {
    return await response.arrayBuffer();
  } catch (error) {
    throw new InferError("truncated", `${url} ended early: ${String(error)}`, { file: url });
  }
}

async function getJson(url: string): Promise<unknown> {
  const text = await (await get(url)).text();
  try {
    return JSON.parse(text);
  } catch {
    throw new InferError("not_a_model", `${url} holds no JSON.`, { file: url });
  }
}

/** The format of a model by its address: `.tflite`, or a TensorFlow.js `model.json`. */
export function formatOfUrl(url: string): Format {
  return new URL(url).pathname.endsWith(".json") ? "tfjs" : "tflite";
}

/** The report's address: `model.tflite` has `model.report.json`, `model.json` has `report.json`. */
function reportUrl(url: string): string {
  return formatOfUrl(url) === "tfjs"
    ? new URL("report.json", url).href
    : url.replace(/\.tflite(?=$|\?)/, ".report.json");
}

export async function readReport(url: string): Promise<Report> {
  const report = (await getJson(reportUrl(url))) as Partial<Report>;
  const { short_side: shortSide, crop_size: cropSize } = report.preprocessing ?? {};
  const numbers = [report.num_classes, ...(report.size ?? []), shortSide, cropSize];
  if (numbers.length !== 5 || !numbers.every((value) => Number.isInteger(value) && value! > 0)) {
    throw new InferError("wrong_task", `${reportUrl(url)} is not a classifier's report.`, {
      file: reportUrl(url),
    });
  }
  return report as Report;
}

export async function readLabels(url: string, count: number): Promise<string[]> {
  const address = new URL("labels.txt", url).href;
  const labels = (await (await get(address)).text()).replace(/\r?\n$/, "").split(/\r?\n/);
  if (labels.length !== count) {
    throw new InferError(
      "wrong_task",
      `${address} must have a line for each of the ${count} classes. Received: ${labels.length}.`,
      { file: address },
    );
  }
  return labels;
}

async function readTflite(url: string, expected: number | undefined): Promise<TfliteFiles> {
  const bytes = new Uint8Array(await getBytes(url));
  const identifier = String.fromCharCode(...bytes.subarray(4, 8));
  if (expected !== undefined && bytes.length < expected) {
    throw new InferError("truncated", `${url} has ${bytes.length} of ${expected} bytes.`, {
      file: url,
    });
  }
  if (identifier !== TFLITE_IDENTIFIER) {
    throw new InferError("not_a_model", `${url} is not a TFLite file.`, { file: url });
  }
  return { format: "tflite", bytes };
}

async function readTfjs(url: string): Promise<TfjsFiles> {
  const json = (await getJson(url)) as ModelJson;
  if (!json.modelTopology || !Array.isArray(json.weightsManifest)) {
    throw new InferError("not_a_model", `${url} is not a TensorFlow.js graph model.`, {
      file: url,
    });
  }
  const paths = json.weightsManifest.flatMap((group) => group.paths);
  const weights = await Promise.all(paths.map((path) => getBytes(new URL(path, url).href)));
  const received = weights.reduce((total, shard) => total + shard.byteLength, 0);
  const expected = json.weightsManifest.reduce(
    (total, group) => total + weightBytes(group.weights),
    0,
  );
  if (received !== expected) {
    throw new InferError("truncated", `${url}'s weights have ${received} of ${expected} bytes.`, {
      file: url,
    });
  }
  return { format: "tfjs", json, weights };
}

/** Reads a model's files and checks that they are whole. */
export function readModel(url: string, report: Report): Promise<ModelFiles> {
  return formatOfUrl(url) === "tfjs" ? readTfjs(url) : readTflite(url, report.bytes);
}
