/** Turns files and addresses into upright images, and refuses what cannot become one. */
import { BITMAP_OPTIONS } from "../infer";
import { text } from "./text";

/** Decoding takes four bytes a pixel, and the page needs two copies: a phone has no more. */
const MAX_MEGAPIXELS = 64;

/** A message for the person at the page. */
export class UserError extends Error {}

export interface ChosenImage {
  bitmap: ImageBitmap;
  animated: boolean;
}

/** Width and height, read without decoding the pixels. */
async function sizeOf(blob: Blob): Promise<[number, number]> {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
    });
    return [image.naturalWidth, image.naturalHeight];
  } catch {
    throw new UserError(text.errors.not_an_image);
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

async function isAnimated(blob: Blob): Promise<boolean> {
  if (typeof ImageDecoder === "undefined" || !/gif|png|webp|avif/.test(blob.type)) return false;
  const decoder = new ImageDecoder({ data: blob.stream(), type: blob.type });
  try {
    await decoder.tracks.ready;
    return decoder.tracks.selectedTrack?.animated ?? false;
  } catch {
    return false;
  } finally {
    decoder.close();
  }
}

/**
 * Decodes an image.
 *
 * @throws UserError where the file is no image or too large.
 */
export async function readImage(blob: Blob): Promise<ChosenImage> {
  const [width, height] = await sizeOf(blob);
  const megapixels = (width * height) / 1e6;
  if (megapixels > MAX_MEGAPIXELS) {
    throw new UserError(text.errors.too_large(Math.round(megapixels), MAX_MEGAPIXELS));
  }
  try {
    const bitmap = await createImageBitmap(blob, BITMAP_OPTIONS);
    return { bitmap, animated: await isAnimated(blob) };
  } catch {
    throw new UserError(text.errors.not_an_image);
  }
}

/** The first image of a drop or a paste, or null. */
export function imageFrom(data: DataTransfer | null): File | null {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? data?.files[0] ?? null;
}
