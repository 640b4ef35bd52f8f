/** The camera: asking for it, showing it, taking its pictures. */
import { UserError } from "./image_input";
import { text } from "./text";

export type Facing = "environment" | "user";

/** What its pictures are for: to be taken, or one after another for a model. */
export type Mode = "camera" | "live";

/** A camera that is on, until `stop`. */
export interface OpenCamera {
  readonly stream: MediaStream;
  readonly facing: Facing;
  /** Asks for pictures of a size that is right for this; a camera that has no other goes on. */
  serve(mode: Mode): Promise<void>;
  stop(): void;
}

/**
 * Wanted widths and heights. Models see a few hundred pixels: of a larger live picture most of a
 * frame's time would go into its colours, which come as brightness and hue.
 */
const SIZES: Record<Mode, MediaTrackConstraints> = {
  camera: { width: { ideal: 1280 }, height: { ideal: 960 } },
  live: { width: { ideal: 640 }, height: { ideal: 480 } },
};

function cameraError(error: unknown): UserError {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") {
    return new UserError(text.errors.camera_denied);
  }
  if (name === "NotFoundError" || name === "OverconstrainedError") {
    return new UserError(text.errors.no_camera);
  }
  return new UserError(text.errors.camera_failed(error instanceof Error ? error.message : name));
}

export class Camera {
  private readonly video: HTMLVideoElement;
  private shown: OpenCamera | undefined;

  constructor(video: HTMLVideoElement) {
    this.video = video;
  }

  /** A front camera's picture is shown like a mirror. */
  get mirrored(): boolean {
    const settings = this.shown?.stream.getVideoTracks()[0]?.getSettings();
    return (settings?.facingMode ?? "environment") === "user";
  }

  /**
   * Turns on the camera on this side, or the one there is. The caller turns it off.
   *
   * @param onEnd Called when it ends by itself: unplugged, or the permission withdrawn.
   * @throws UserError without a camera or the permission.
   */
  async request(facing: Facing, onEnd: () => void): Promise<OpenCamera> {
    if (!window.isSecureContext) throw new UserError(text.errors.camera_insecure);
    if (!navigator.mediaDevices) throw new UserError(text.errors.no_camera);
    const wanted = (mode: Mode) => ({ facingMode: { ideal: facing }, ...SIZES[mode] });
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: wanted("camera") });
      for (const track of stream.getTracks()) track.addEventListener("ended", onEnd);
      const stop = () => {
        for (const track of stream.getTracks()) {
          track.removeEventListener("ended", onEnd);
          track.stop();
        }
      };
      const serve = async (mode: Mode) => {
        const [track] = stream.getVideoTracks();
        await track?.applyConstraints(wanted(mode)).catch(() => undefined);
      };
      return { stream, facing, serve, stop };
    } catch (error) {
      throw cameraError(error);
    }
  }

  /** Shows a camera's picture; none with null. */
  async show(camera: OpenCamera | null): Promise<void> {
    this.shown = camera ?? undefined;
    this.video.srcObject = camera?.stream ?? null;
    try {
      if (camera) await this.video.play();
    } catch (error) {
      // Another picture has taken its place meanwhile.
      if (this.shown === camera) throw cameraError(error);
    }
  }

  /** The picture that the camera shows now. */
  frame(): Promise<ImageBitmap> {
    return createImageBitmap(this.video);
  }
}
