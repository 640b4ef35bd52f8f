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
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new InferError("not_an_image", "The image is too large for a canvas.");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  if (isOpaque(pixels)) return pixels;
  return (await readStored(bitmap)) ?? pixels;
}

function isOpaque({ data }: Pixels): boolean {
  for (let at = 3; at < data.length; at += 4) if (data[at] !== 255) return false;
  return true;
}

/**
 * Colours as they are stored, under transparent pixels too. A canvas multiplies them by alpha and
 * loses them; a texture does not. Null where there is no WebGL.
 */
async function readStored(bitmap: ImageBitmap): Promise<Pixels | null> {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (!gl) return null;
  const { width, height } = bitmap;
  const data = new Uint8Array(width * height * 4);
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
        for (let row = 0; row < rows; row++) {
          const line = part.subarray(4 * row * columns, 4 * (row + 1) * columns);
          data.set(line, 4 * ((top + row) * width + left));
        }
      }
    }
    return gl.getError() === gl.NO_ERROR ? { data, width, height } : null;
  } finally {
    gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}
