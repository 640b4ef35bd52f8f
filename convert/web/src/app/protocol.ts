/** The messages between the page and its worker. */
import type { ErrorCode, Prediction, Rejection, Report, RuntimeName, Source, Timings } from "../infer";

/** A model and the way it is wanted; the worker loads it when it first needs it. */
export interface ModelSpec {
  id: string;
  source: Source;
  runtime: RuntimeName | "auto";
  threads?: number;
}

/** What runs, and why others do not. */
export interface ModelState {
  runtime: RuntimeName;
  threads: number;
  rejected: readonly Rejection[];
  timings: Timings;
  report: Report;
  /** Bytes that the runtime holds. */
  memory: number;
}

export interface Classification {
  state: ModelState;
  predictions: Prediction[];
}

export interface Requests {
  prepare: { argument: { spec: ModelSpec }; result: ModelState };
  classify: {
    argument: { spec: ModelSpec; image: ImageBitmap; count: number };
    result: Classification;
  };
  time: { argument: { spec: ModelSpec }; result: number };
  obstacles: { argument: Record<string, never>; result: Rejection[] };
  resources: { argument: Record<string, never>; result: string[] };
}

export type RequestKind = keyof Requests;

export interface Request<K extends RequestKind = RequestKind> {
  id: number;
  kind: K;
  argument: Requests[K]["argument"];
}

export interface Failure {
  code: ErrorCode | "worker_crashed" | "unexpected";
  message: string;
  details: Readonly<Record<string, string>>;
}

/** Number of the message by which a worker says that it runs; no request has it. */
export const READY = -1;

export interface Response {
  id: number;
  result?: unknown;
  failure?: Failure;
}
