/** Reads a model's files, and its description from them. */
import { type Description, describedTfjs, describedTflite, fromReport } from "./description";
import { InferError } from "./errors";
import type { Format } from "./runtimes";
import { type ModelJson, weightBytes } from "./tfjs";

/** Addresses of one model in one or both formats, or a `.tflite` file. */
export type Source = string | Blob | Partial<Record<Format, string>>;

export interface TfliteFiles {
  format: "tflite";
  bytes: Uint8Array;
}

export interface TfjsFiles {
  format: "tfjs";
  json: ModelJson;
  weights: ArrayBuffer[];
}

/** A model's files, whole, with what they say of themselves. */
export type ModelFiles = (TfliteFiles | TfjsFiles) & { description: Description };

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
    : url.replace(/\.tflite(?=$|[?#])/, ".report.json");
}

/** The description of an export of 0.1.0, whose files do not hold one. */
async function readBeside(url: string, length?: number): Promise<Description> {
  const report = ((await getJson(reportUrl(url))) ?? {}) as Record<string, unknown>;
  if (typeof report.bytes === "number" && length !== undefined && length < report.bytes) {
    throw new InferError("truncated", `${url} has ${length} of ${report.bytes} bytes.`, {
      file: url,
    });
  }
  if (!Number.isInteger(report.num_classes)) {
    throw new InferError("wrong_task", `${reportUrl(url)} is not a classifier's report.`);
  }
  const text = await (await get(new URL("labels.txt", url).href)).text();
  return fromReport(report, text.replace(/\r?\n$/, "").split(/\r?\n/));
}

async function readTflite(source: string | Blob): Promise<ModelFiles> {
  const isAddress = typeof source === "string";
  const bytes = new Uint8Array(await (isAddress ? getBytes(source) : source.arrayBuffer()));
  const file = isAddress ? source : source instanceof File ? source.name : "";
  if (String.fromCharCode(...bytes.subarray(4, 8)) !== TFLITE_IDENTIFIER) {
    throw new InferError("not_a_model", `${file} is not a TFLite file.`, { file });
  }
  const description = describedTflite(bytes);
  if (description) return { format: "tflite", bytes, description };
  if (isAddress) {
    return { format: "tflite", bytes, description: await readBeside(source, bytes.length) };
  }
  throw new InferError("not_described", `${file} does not say what it is.`, { file });
}

async function readTfjs(url: string): Promise<ModelFiles> {
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
  const description = describedTfjs(json) ?? (await readBeside(url));
  return { format: "tfjs", json, weights, description };
}

/**
 * Reads a model's files and checks that they are whole.
 *
 * @throws InferError `not_found`, `truncated`, `not_a_model`, `not_described`, `wrong_task`.
 */
export function readModel(source: string | Blob): Promise<ModelFiles> {
  const isTfjs = typeof source === "string" && formatOfUrl(source) === "tfjs";
  return isTfjs ? readTfjs(source) : readTflite(source);
}
