/** What lies over the picture: a mask whose pixels are the picture's, boxes as sharp as the screen. */
import type { Box, Colour, HeatPicture, Size } from "../../infer";

/** A box with what stands on it. */
export interface Mark {
  /** In pixels of the picture. */
  box: Box;
  colour: Colour;
  label: string;
}

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

/** In CSS pixels. */
const LINE = 2;
const FONT = 13;
const PADDING = 4;

/** Colours brighter than this carry black words, others white ones. */
const BRIGHT = 140;

export class Overlay {
  private marks: readonly Mark[] = [];
  /** Height and width of the boxes' canvas in the screen's pixels, where the browser says it. */
  private screen: Size | undefined;
  /** Height and width of the picture that they lie on. */
  private size: Size = [1, 1];

  /**
   * @param stage What both canvases fill; its `data-mirror` says that the picture is mirrored.
   * @param mask Of the picture's own pixels; the style sheet lays it where the picture lies.
   * @param boxes Of the screen's pixels.
   */
  constructor(
    private readonly stage: HTMLElement,
    private readonly mask: HTMLCanvasElement,
    private readonly boxes: HTMLCanvasElement,
  ) {
    // Another size of the window, another zoom.
    const observer = new ResizeObserver(([entry]) => {
      const [box] = entry?.devicePixelContentBoxSize ?? [];
      this.screen = box && box.inlineSize > 0 ? [box.blockSize, box.inlineSize] : undefined;
      this.draw();
    });
    try {
      observer.observe(boxes, { box: "device-pixel-content-box" });
    } catch {
      // Safari does not know it: the sizes are rounded there.
      observer.observe(boxes);
    }
  }

  clear(): void {
    this.marks = [];
    this.mask.hidden = true;
    this.boxes.hidden = true;
  }

  /**
   * Lays a mask over the picture.
   *
   * @param colours Red, green, blue and opacity of each of the 256 numbers.
   * @param opacity Of all of it, 0 to 1.
   */
  showMask({ width, height, mask }: HeatPicture, colours: Uint8Array, opacity: number): void {
    const { mask: canvas } = this;
    if (canvas.width !== width || canvas.height !== height) {
      [canvas.width, canvas.height] = [width, height];
    }
    const context = canvas.getContext("2d");
    if (!context) return;
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const table = new Uint32Array(colours.buffer, colours.byteOffset, 256);
    for (let at = 0; at < mask.length; at++) pixels[at] = table[mask[at]!]!;
    context.putImageData(image, 0, 0);
    canvas.style.opacity = String(opacity);
    canvas.hidden = false;
  }

  /** Draws boxes over a picture of this height and width. */
  showBoxes(marks: readonly Mark[], picture: Size): void {
    this.marks = marks;
    this.size = picture;
    this.boxes.hidden = false;
    this.draw();
  }

  /** The picture with what lies over it, of the picture's own pixels. */
  async picture(source: HTMLCanvasElement): Promise<Blob> {
    const { width, height } = source;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d")!;
    context.drawImage(source, 0, 0);
    if (!this.mask.hidden) {
      context.globalAlpha = Number(this.mask.style.opacity);
      context.drawImage(this.mask, 0, 0, width, height);
      context.globalAlpha = 1;
    }
    if (!this.boxes.hidden) {
      // As large in it as they are on the screen.
      const density = Math.max(width / this.stage.clientWidth, height / this.stage.clientHeight);
      this.drawMarks(context, [height, width], density);
    }
    return canvas.convertToBlob({ type: "image/png" });
  }

  private draw(): void {
    const { boxes: canvas } = this;
    const context = canvas.getContext("2d");
    if (canvas.hidden || !context) return;
    const density = window.devicePixelRatio || 1;
    const rounded: Size = [
      Math.round(canvas.clientHeight * density),
      Math.round(canvas.clientWidth * density),
    ];
    // An emulated screen's own pixels are others than those that the page is laid out for.
    const isExact = this.screen?.every((side, axis) => Math.abs(side - rounded[axis]!) <= 2);
    [canvas.height, canvas.width] = isExact ? this.screen! : rounded;
    this.drawMarks(context, [canvas.height, canvas.width], density);
  }

  /** @param canvas Height and width of what is drawn on. */
  private drawMarks(context: Context, [height, width]: Size, density: number): void {
    const { size: picture } = this;
    // As `object-fit: contain` lays the picture.
    const scale = Math.min(width / picture[1], height / picture[0]);
    const left = (width - picture[1] * scale) / 2;
    const top = (height - picture[0] * scale) / 2;
    const isMirrored = this.stage.hasAttribute("data-mirror");
    const place = ([x, y, right, bottom]: Box): Box => {
      const [from, to] = isMirrored ? [picture[1] - right, picture[1] - x] : [x, right];
      return [left + from * scale, top + y * scale, left + to * scale, top + bottom * scale];
    };
    context.font = `600 ${FONT * density}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    // The surest, which come first, lie on top.
    for (const mark of [...this.marks].reverse()) drawMark(context, mark, place(mark.box), density);
  }
}

function drawMark(
  context: Context,
  { colour, label }: Mark,
  place: Box,
  density: number,
): void {
  const [left, top, right, bottom] = place.map(Math.round) as unknown as Box;
  const line = Math.max(1, Math.round(LINE * density));
  const fill = `rgb(${colour.join(" ")})`;
  // The colours are dark ones: a light edge around them stands out from dark photographs.
  context.lineWidth = line + 2 * Math.max(1, Math.round(density));
  context.strokeStyle = "rgb(255 255 255 / 80%)";
  context.strokeRect(left + line / 2, top + line / 2, right - left - line, bottom - top - line);
  context.lineWidth = line;
  context.strokeStyle = fill;
  context.strokeRect(left + line / 2, top + line / 2, right - left - line, bottom - top - line);
  const padding = PADDING * density;
  const height = Math.round((FONT + 6) * density);
  const width = Math.ceil(context.measureText(label).width + 2 * padding);
  // Above the box, or inside of it at the picture's edge; never beyond the right edge.
  const y = top >= height ? top - height : top;
  const x = Math.max(0, Math.min(left, context.canvas.width - width));
  context.fillStyle = fill;
  context.fillRect(x, y, width, height);
  context.fillStyle = wordsOn(colour);
  context.fillText(label, x + padding, y + height / 2);
}

/** Black or white, whichever can be read on a colour. */
export function wordsOn([red, green, blue]: Colour): string {
  return 0.299 * red + 0.587 * green + 0.114 * blue > BRIGHT ? "#000" : "#fff";
}
