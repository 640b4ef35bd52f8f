/** What went wrong, for pages that show their own text; the message is for developers. */
export type ErrorCode =
  | "cancelled"
  | "not_found"
  | "truncated"
  | "not_a_model"
  | "not_described"
  | "wrong_task"
  | "no_runtime"
  | "runtime_failed"
  | "not_an_image";

/** An error of this module: a code, a message, and the values that belong into a sentence. */
export class InferError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, message: string, details: Record<string, string> = {}) {
    super(message);
    this.name = "InferError";
    this.code = code;
    this.details = details;
  }
}

/** The text of anything that can be thrown, WebAssembly's bare numbers included. */
export function reasonOf(error: unknown): string {
  if (error instanceof Error) return error.message || error.name;
  return typeof error === "number" ? `WebAssembly exception ${error}` : String(error);
}
