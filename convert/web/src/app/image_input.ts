/** Turns files and addresses into upright images, and refuses what cannot become one. */
import { BITMAP_OPTIONS } from "../infer";
import { text } from "./text";

/** Decoding takes four bytes a pixel, and the page needs two copies: a phone has no more. */
export const MAX_MEGAPIXELS = 64;

/** A message for the person at the page. */
export class UserError extends Error {}

/** An image file: what the models see, and a small copy to show. */
export interface ChosenImage {
  image: Blob;
  preview: ImageBitmap;
  animated: boolean;
  close(): void;
}

/** Longer side of what is shown, in pixels. */
const PREVIEW_SIDE = 1024;

/** Millions of pixels, read without decoding them, or null where the file is no image. */
export async function megapixelsOf(blob: Blob): Promise<number | null> {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
    });
    return (image.naturalWidth * image.naturalHeight) / 1e6;
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

async function isAnimated(blob: Blob): Promise<boolean> {
  if (typeof ImageDecoder === "undefined" || !/gif|png|webp|avif/.test(blob.type)) return false;
  const decoder = new ImageDecoder({ data: blob.stream(), type: blob.type });
  // Closed before the file's end this fails, which Firefox reports where nobody listens.
  decoder.completed.catch(() => undefined);
  try {
    await decoder.tracks.ready;
    return decoder.tracks.selectedTrack?.animated ?? false;
  } catch {
    return false;
  } finally {
    decoder.close();
  }
}

/** A copy that is no larger than what is shown. */
async function reduced(whole: ImageBitmap): Promise<ImageBitmap> {
  const scale = PREVIEW_SIDE / Math.max(whole.width, whole.height);
  if (scale >= 1) return whole;
  try {
    return await createImageBitmap(whole, {
      resizeWidth: Math.max(1, Math.round(whole.width * scale)),
      resizeHeight: Math.max(1, Math.round(whole.height * scale)),
      resizeQuality: "high",
    });
  } finally {
    whole.close();
  }
}

/**
 * Decodes an image.
 *
 * @throws UserError where the file is no image or too large.
 */
export async function readImage(blob: Blob): Promise<ChosenImage> {
  const megapixels = await megapixelsOf(blob);
  if (megapixels === null) throw new UserError(text.errors.not_an_image);
  if (megapixels > MAX_MEGAPIXELS) {
    throw new UserError(text.errors.too_large(Math.round(megapixels), MAX_MEGAPIXELS));
  }
  try {
    const preview = await reduced(await createImageBitmap(blob, BITMAP_OPTIONS));
    return { image: blob, preview, animated: await isAnimated(blob), close: () => preview.close() };
  } catch {
    throw new UserError(text.errors.not_an_image);
  }
}

/** Whether a file is a model rather than an image. */
export function isModel(file: File): boolean {
  return file.name.toLowerCase().endsWith(".tflite");
}

/** The first image or model of a drop or a paste, else its first file, or null. */
export function fileFrom(data: DataTransfer | null): File | null {
  const files = [...(data?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/") || isModel(file)) ?? files[0] ?? null;
}
