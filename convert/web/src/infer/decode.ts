/** Pixels of an image as the evaluation pipeline reads them: upright, as stored, alpha dropped. */
import { InferError, reasonOf } from "./errors";
import type { Pixels } from "./preprocess";

/** What can be classified. A `Blob` is best: it is decoded here, as the options below say. */
export type ImageSource = ImageBitmap | Blob | Pixels;

/** Decoding that the evaluation pipeline shares: upright, no colour profile, colours as stored. */
export const BITMAP_OPTIONS: ImageBitmapOptions = {
  imageOrientation: "from-image",
  colorSpaceConversion: "none",
  premultiplyAlpha: "none",
};

/** Side of the parts that a graphics processor is given; every one takes as much. */
const TILE = 2048;
/** Pixels of a canvas: phones have no larger ones, and a whole one would be a third copy. */
const STRIP = TILE * TILE;

/**
 * Decodes an image, or reads a decoded one.
 *
 * @throws InferError `not_an_image`.
 */
export async function pixelsOf(image: ImageSource): Promise<Pixels> {
  if ("data" in image) return image;
  if (!(image instanceof Blob)) return readBitmap(image);
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(image, BITMAP_OPTIONS);
  } catch (error) {
    throw new InferError("not_an_image", reasonOf(error));
  }
  try {
    return await readBitmap(bitmap);
  } finally {
    bitmap.close();
  }
}

async function readBitmap(bitmap: ImageBitmap): Promise<Pixels> {
  const { width, height } = bitmap;
  const rows = Math.min(height, Math.max(1, Math.floor(STRIP / width)));
  const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  if (!context) throw new InferError("not_an_image", "The image is too large for a canvas.");
  context.globalCompositeOperation = "copy";
  let pixels: Pixels;
  const strip = (top: number) => {
    context.drawImage(bitmap, 0, -top);
    return context.getImageData(0, 0, width, Math.min(rows, height - top));
  };
  if (rows === height) pixels = strip(0);
  else {
    pixels = { data: new Uint8Array(4 * width * height), width, height };
    for (let top = 0; top < height; top += rows) pixels.data.set(strip(top).data, 4 * top * width);
  }
  if (!isOpaque(pixels)) await readStored(bitmap, pixels);
  return pixels;
}

function isOpaque({ data }: Pixels): boolean {
  for (let at = 3; at < data.length; at += 4) if (data[at] !== 255) return false;
  return true;
}

/**
 * Puts in colours as they are stored, under transparent pixels too. A canvas multiplies them by alpha
 * and loses them; a texture does not. Without WebGL the pixels stay as they are.
 */
async function readStored(bitmap: ImageBitmap, { data, width, height }: Pixels): Promise<void> {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl) return;
  try {
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    for (let top = 0; top < height; top += TILE) {
      for (let left = 0; left < width; left += TILE) {
        const columns = Math.min(TILE, width - left);
        const rows = Math.min(TILE, height - top);
        const tile = await createImageBitmap(bitmap, left, top, columns, rows, {
          premultiplyAlpha: "none",
          colorSpaceConversion: "none",
        });
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, tile);
        tile.close();
        const texture = gl.getParameter(gl.TEXTURE_BINDING_2D) as WebGLTexture;
        gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
        const part = new Uint8Array(columns * rows * 4);
        gl.readPixels(0, 0, columns, rows, gl.RGBA, gl.UNSIGNED_BYTE, part);
        if (gl.getError() !== gl.NO_ERROR) return;
        for (let row = 0; row < rows; row++) {
          const line = part.subarray(4 * row * columns, 4 * (row + 1) * columns);
          data.set(line, 4 * ((top + row) * width + left));
        }
      }
    }
  } finally {
    gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}
