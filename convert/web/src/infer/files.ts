/** Reads a model's files, and its description from them. */
import { type Description, describedTfjs, describedTflite, fromReport } from "./description";
import { InferError } from "./errors";
import { lengthOf, type OnProgress } from "./progress";
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

/** How files are fetched. */
export interface FetchOptions {
  /** Ends the download; `load` then fails with `cancelled`. */
  signal?: AbortSignal;
  /** The `.tflite` file's length, where it is known: a shorter one is refused as `truncated`. */
  bytes?: number;
  /** Hears how far the model's files have come. */
  onProgress?: OnProgress;
}

async function get(url: string, { signal }: FetchOptions): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    throw failure("not_found", url, error, signal);
  }
  if (!response.ok) throw failure("not_found", url, `status ${response.status}`, signal);
  return response;
}

function failure(
  code: "not_found" | "truncated",
  url: string,
  reason: unknown,
  signal?: AbortSignal,
): InferError {
  if (signal?.aborted) return new InferError("cancelled", `${url} is no longer wanted.`);
  return new InferError(code, `${url} cannot be read: ${String(reason)}`, { file: url });
}

async function getBytes(url: string, options: FetchOptions): Promise<Uint8Array<ArrayBuffer>> {
  const response = await get(url, options);
  const parts: Uint8Array[] = [];
  let received = 0;
  const total = lengthOf(response.headers);
  try {
    const reader = response.body?.getReader();
    for (let part = await reader?.read(); part?.value; part = await reader?.read()) {
      parts.push(part.value);
      received += part.value.length;
      options.onProgress?.(received, total);
    }
  } catch (error) {
    throw failure("truncated", url, error, options.signal);
  }
  const bytes = new Uint8Array(received);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

async function getJson(url: string, options: FetchOptions): Promise<unknown> {
  const text = await (await get(url, options)).text();
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
async function readBeside(
  url: string,
  options: FetchOptions,
  length?: number,
): Promise<Description> {
  const report = ((await getJson(reportUrl(url), options)) ?? {}) as Record<string, unknown>;
  if (typeof report.bytes === "number" && length !== undefined && length < report.bytes) {
    throw new InferError("truncated", `${url} has ${length} of ${report.bytes} bytes.`, {
      file: url,
    });
  }
  if (!Number.isInteger(report.num_classes)) {
    throw new InferError("wrong_task", `${reportUrl(url)} is not a classifier's report.`);
  }
  const text = await (await get(new URL("labels.txt", url).href, options)).text();
  return fromReport(report, text.replace(/\r?\n$/, "").split(/\r?\n/));
}

async function readTflite(source: string | Blob, options: FetchOptions): Promise<ModelFiles> {
  const isAddress = typeof source === "string";
  const bytes = isAddress
    ? await getBytes(source, options)
    : new Uint8Array(await source.arrayBuffer());
  const file = isAddress ? source : source instanceof File ? source.name : "";
  if (String.fromCharCode(...bytes.subarray(4, 8)) !== TFLITE_IDENTIFIER) {
    throw new InferError("not_a_model", `${file} is not a TFLite file.`, { file });
  }
  if (isAddress && options.bytes !== undefined && bytes.length < options.bytes) {
    throw new InferError("truncated", `${file} has ${bytes.length} of ${options.bytes} bytes.`, {
      file,
    });
  }
  const description = describedTflite(bytes);
  if (description) return { format: "tflite", bytes, description };
  try {
    if (isAddress) {
      return { format: "tflite", bytes, description: await readBeside(source, options, bytes.length) };
    }
  } catch (error) {
    if (!(error instanceof InferError) || error.code !== "not_found") throw error;
  }
  throw new InferError("not_described", `${file} does not say what it is.`, { file });
}

async function readTfjs(url: string, options: FetchOptions): Promise<ModelFiles> {
  const json = (await getJson(url, options)) as ModelJson;
  if (!json.modelTopology || !Array.isArray(json.weightsManifest)) {
    throw new InferError("not_a_model", `${url} is not a TensorFlow.js graph model.`, {
      file: url,
    });
  }
  const paths = json.weightsManifest.flatMap((group) => group.paths);
  const expected = json.weightsManifest.reduce(
    (total, group) => total + weightBytes(group.weights),
    0,
  );
  // The files come side by side; what is told is their sum.
  const shares = paths.map(() => 0);
  const weights = await Promise.all(
    paths.map(async (path, index) => {
      const onProgress = (received: number) => {
        shares[index] = received;
        options.onProgress?.(shares.reduce((total, share) => total + share, 0), expected);
      };
      return (await getBytes(new URL(path, url).href, { ...options, onProgress })).buffer;
    }),
  );
  const received = weights.reduce((total, shard) => total + shard.byteLength, 0);
  if (received !== expected) {
    throw new InferError("truncated", `${url}'s weights have ${received} of ${expected} bytes.`, {
      file: url,
    });
  }
  const description = describedTfjs(json) ?? (await readBeside(url, options));
  return { format: "tfjs", json, weights, description };
}

/**
 * Reads a model's files and checks that they are whole.
 *
 * @throws InferError `not_found`, `truncated`, `not_a_model`, `not_described`, `wrong_task`,
 *   `cancelled`.
 */
export function readModel(source: string | Blob, options: FetchOptions): Promise<ModelFiles> {
  const isTfjs = typeof source === "string" && formatOfUrl(source) === "tfjs";
  return isTfjs ? readTfjs(source, options) : readTflite(source, options);
}
