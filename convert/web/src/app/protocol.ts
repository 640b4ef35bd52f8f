/** The messages between the page and its worker. */
import type {
  Classification,
  Description,
  Detection,
  ErrorCode,
  Rejection,
  Running,
  RuntimeName,
  Segmentation,
  Size,
  Source,
  Timings,
  Way,
} from "../infer";

/** A model and the way it is wanted; the worker loads it when it first needs it. */
export interface ModelSpec {
  id: string;
  source: Source;
  runtime: RuntimeName | "auto" | readonly Way[];
  threads?: number;
  /** Length of the `.tflite` file. */
  bytes?: number;
}

/** What runs, and why others do not. */
export interface ModelState extends Running {
  rejected: readonly Rejection[];
  timings: Timings;
  /** Bytes that the runtime holds. */
  memory: number;
}

/** A loaded model's state, and what its file says of itself. */
export interface Prepared extends ModelState {
  description: Description;
}

/** What a model of each task says of an image. */
export interface Answers {
  /** The most probable classes; where they are, of files that say it, with the size it is shown at. */
  classification: Classification & { shown: Size };
  detection: Detection;
  segmentation: Segmentation;
}

export type TaskName = keyof Answers;

/** What a model says of an image, and how it runs; `task` tells what kind it is of. */
export type Answer<Task extends TaskName = TaskName> = {
  [Name in Task]: { task: Name; found: Answers[Name]; state: ModelState };
}[Task];

export interface Requests {
  prepare: { argument: { spec: ModelSpec }; result: Prepared };
  predict: {
    argument: {
      spec: ModelSpec;
      image: Blob | ImageBitmap;
      /** Height and width at which the image is shown: those of a mask. */
      shown: Size;
      /** The image's number: it is decoded once for all the models that see it. */
      key: number;
      /** Whether no further model needs it. */
      last: boolean;
    };
    result: Answer;
  };
  /** Frees every model but those with these names. */
  retain: { argument: { ids: string[] }; result: null };
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

/** Number of messages about what is being loaded. */
export const PROGRESS = -2;

/** Number of the message by which a worker says that it runs; no request has it. */
export const READY = -1;

/** How far a model's files have come, or the runtime that it needs. */
export interface Progress {
  /** The model's name. */
  model: string;
  part: "model" | "runtime";
  received: number;
  /** 0 where the host does not say it. */
  total: number;
}

export interface Response {
  id: number;
  /** Not an answer, but news of what is being loaded. */
  progress?: Progress;
  result?: unknown;
  failure?: Failure;
}
