/** How far a download has come. */

/** Called with the bytes received so far and, where the host says it, their number, else 0. */
export type OnProgress = (received: number, total: number) => void;

/** The number of a body's bytes, or 0: a compressed body has another length than its contents. */
export function lengthOf(headers: Headers): number {
  return headers.get("content-encoding") ? 0 : Number(headers.get("content-length") ?? 0);
}

/** Reads a body to its end and tells how far it is. What goes wrong is for the other reader. */
export async function countBytes(
  body: ReadableStream<Uint8Array>,
  headers: Headers,
  onProgress: OnProgress,
): Promise<void> {
  const total = lengthOf(headers);
  const reader = body.getReader();
  let received = 0;
  try {
    for (let part = await reader.read(); part.value; part = await reader.read()) {
      received += part.value.length;
      onProgress(received, total);
    }
  } catch {
    // The loader meets the same.
  }
}
