/** The camera: opening, switching between front and back, taking pictures. */
import { UserError } from "./image_input";
import { text } from "./text";

export type Facing = "environment" | "user";

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
  private stream: MediaStream | undefined;
  private facing: Facing = "environment";

  constructor(video: HTMLVideoElement) {
    this.video = video;
  }

  get open(): boolean {
    return this.stream !== undefined;
  }

  /** A front camera's picture is shown like a mirror. */
  get mirrored(): boolean {
    const settings = this.stream?.getVideoTracks()[0]?.getSettings();
    return (settings?.facingMode ?? "environment") === "user";
  }

  /**
   * Opens the camera on this side, or the one there is.
   *
   * @throws UserError without a camera or the permission.
   */
  async start(facing: Facing = this.facing): Promise<void> {
    this.stop();
    if (!navigator.mediaDevices) throw new UserError(text.errors.no_camera);
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: { ideal: facing }, width: { ideal: 1280 }, height: { ideal: 960 } },
      });
      this.facing = facing;
      this.video.srcObject = this.stream;
      await this.video.play();
    } catch (error) {
      this.stop();
      throw cameraError(error);
    }
  }

  /** Opens the camera of the other side. */
  switchSide(): Promise<void> {
    return this.start(this.facing === "environment" ? "user" : "environment");
  }

  stop(): void {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = undefined;
    this.video.srcObject = null;
  }

  /** The picture that the camera shows now. */
  frame(): Promise<ImageBitmap> {
    return createImageBitmap(this.video);
  }
}
