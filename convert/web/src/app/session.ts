/**
 * What the page does now, and what may follow: one state machine for choosing, predicting, camera
 * and live. Knows neither the document nor the worker; both are handed in.
 *
 * Whatever is begun has a number. What comes back under an older one is dropped: no result stands
 * beside another image, and no camera that opens late stays on.
 */
import type { Facing, Mode, OpenCamera } from "./camera";

export type State =
  | { readonly name: "empty" }
  | { readonly name: "image"; readonly predicting: boolean }
  /** The browser asks for the camera. */
  | { readonly name: "opening"; readonly mode: Mode }
  | { readonly name: "camera" }
  | { readonly name: "live" }
  /** The page is hidden: the camera is off until it is seen again. */
  | { readonly name: "paused"; readonly mode: Mode };

/** A chosen or captured image. */
export interface Picture {
  /** What the models see. */
  readonly image: Blob | ImageBitmap;
  /** Frees what it holds. */
  close(): void;
}

/** The part of the page that this machine drives. */
export interface View<Model, Answer> {
  /** The state has changed. */
  changed(state: State): void;
  showPicture(picture: Picture): void;
  /** A run with these models begins; what an earlier one showed goes. */
  begin(models: readonly Model[]): void;
  /** `image` is what it was found in, for as long as this call lasts. */
  answer(model: Model, answer: Answer, image: Blob | ImageBitmap): void;
  /** A model has failed; the others go on. */
  failed(model: Model, error: unknown): void;
  /** An image's run has ended with these answers. */
  done(answers: readonly (readonly [Model, Answer])[]): void;
  loading(model: Model): void;
  /** 0 before the first frame. */
  rate(framesPerSecond: number): void;
  complain(error: unknown): void;
}

/** What the machine works with. */
export interface Ports<Model, Answer> {
  view: View<Model, Answer>;
  camera: {
    request(facing: Facing, onEnd: () => void): Promise<OpenCamera>;
    show(camera: OpenCamera | null): Promise<void>;
    frame(): Promise<ImageBitmap>;
  };
  /** The selected models. */
  models(): readonly Model[];
  read(blob: Blob): Promise<Picture>;
  /** `key` names the image, `last` says that no further model needs it. */
  ask(model: Model, image: Blob | ImageBitmap, key: number, last: boolean): Promise<Answer>;
  prepare(model: Model): Promise<void>;
  /** Frees every model but these. */
  retain(models: readonly Model[]): Promise<void>;
  /** The camera has ended by itself. */
  cameraEnded(): Error;
  now(): number;
}

export class Session<Model, Answer> {
  private current: State = { name: "empty" };
  private picture: Picture | undefined;
  private camera: OpenCamera | undefined;
  private facing: Facing = "environment";
  /** What began last: a run, a camera, a return to the image. */
  private turn = 0;
  /** The file chosen last; its decoding ends nothing until there is a picture. */
  private choice = 0;
  private settings = 0;
  private keys = 0;
  private tail: Promise<unknown> = Promise.resolve();

  constructor(private readonly ports: Ports<Model, Answer>) {}

  get state(): State {
    return this.current;
  }

  /**
   * Shows an image and predicts. What is shown stays where the file is no image.
   *
   * @param shown Called once this image is the one that is shown.
   */
  async choose(load: () => Promise<Blob>, shown: () => void): Promise<void> {
    const choice = ++this.choice;
    try {
      const picture = await this.ports.read(await load());
      if (choice !== this.choice) {
        picture.close();
        return;
      }
      this.take(picture);
      shown();
    } catch (error) {
      if (choice === this.choice) this.ports.view.complain(error);
      return;
    }
    await this.predict();
  }

  /** Predicts with every selected model, one after the other so that their times can be compared. */
  async predict(): Promise<void> {
    const { view } = this.ports;
    const { picture } = this;
    if (!picture || this.current.name !== "image") return;
    const turn = this.enter({ name: "image", predicting: true });
    const models = this.ports.models();
    view.begin(models);
    const answers = await this.run(turn, picture.image, models);
    if (!answers) return;
    view.done(answers);
    this.enter({ name: "image", predicting: false });
  }

  /** Opens the camera, or goes on with the open one in another mode. */
  async open(mode: Mode, facing: Facing = this.facing): Promise<void> {
    const { camera } = this;
    if (camera && camera.facing === facing && this.current.name !== "opening") {
      if (this.current.name !== mode) await this.play(mode);
      return;
    }
    // The same button pressed twice.
    if (this.current.name === "opening" && this.current.mode === mode && facing === this.facing) return;
    this.turnOff();
    this.choice++;
    this.facing = facing;
    const turn = this.enter({ name: "opening", mode });
    try {
      const opened = await this.ports.camera.request(facing, () => this.ended());
      if (turn !== this.turn) return opened.stop();
      this.camera = opened;
      await this.ports.camera.show(opened);
      if (turn === this.turn) await this.play(mode);
    } catch (error) {
      if (turn !== this.turn) return;
      this.ports.view.complain(error);
      this.leave();
    }
  }

  /** Opens the camera of the other side. */
  async switchSide(): Promise<void> {
    const mode = this.current.name === "live" ? "live" : "camera";
    await this.open(mode, this.facing === "environment" ? "user" : "environment");
  }

  /** Turns the camera off and returns to the image, which is predicted anew. */
  async close(): Promise<void> {
    const wasSeen = this.leave();
    if (wasSeen) await this.predict();
  }

  /** Takes the camera's picture and predicts. */
  async capture(): Promise<void> {
    if (this.current.name !== "camera" && this.current.name !== "live") return;
    const { turn } = this;
    try {
      const frame = await this.ports.camera.frame();
      if (turn !== this.turn && this.current.name !== "camera" && this.current.name !== "live") {
        return frame.close();
      }
      this.take({ image: frame, close: () => frame.close() });
    } catch (error) {
      if (turn === this.turn) this.ports.view.complain(error);
      return;
    }
    await this.predict();
  }

  /** Other models or another runtime were chosen: loads them, and predicts again. */
  async configure(): Promise<void> {
    const setting = ++this.settings;
    const { view } = this.ports;
    const models = this.ports.models();
    void this.ports.retain(models).catch(() => undefined);
    for (const model of models) view.loading(model);
    if (this.current.name === "live") return this.play("live");
    if (this.current.name === "image") return this.predict();
    for (const model of models) {
      // A model that cannot be loaded says so; the others are loaded all the same.
      await this.ports.prepare(model).catch((error) => {
        if (setting === this.settings) view.failed(model, error);
      });
      if (setting !== this.settings) return;
    }
  }

  /** The page is hidden or seen again. */
  async hide(hidden: boolean): Promise<void> {
    const { name } = this.current;
    if (hidden && (name === "camera" || name === "live")) {
      this.turnOff();
      this.enter({ name: "paused", mode: name });
    } else if (!hidden && this.current.name === "paused") {
      await this.open(this.current.mode);
    }
  }

  private enter(state: State): number {
    this.current = state;
    this.ports.view.changed(state);
    return ++this.turn;
  }

  private take(picture: Picture): void {
    this.turnOff();
    const old = this.picture;
    this.picture = picture;
    this.ports.view.begin([]);
    this.ports.view.showPicture(picture);
    this.enter({ name: "image", predicting: false });
    old?.close();
  }

  /** Returns to the image; whether answers of another picture were shown, which go. */
  private leave(): boolean {
    const { name } = this.current;
    const wasSeen = name === "camera" || name === "live" || name === "paused";
    this.choice++;
    this.turnOff();
    if (wasSeen) this.ports.view.begin([]);
    // A video's frame may stand in its place.
    if (wasSeen && this.picture) this.ports.view.showPicture(this.picture);
    this.enter(this.picture ? { name: "image", predicting: false } : { name: "empty" });
    return wasSeen;
  }

  private turnOff(): void {
    const { camera } = this;
    if (!camera) return;
    this.camera = undefined;
    camera.stop();
    void this.ports.camera.show(null);
  }

  private ended(): void {
    if (!this.camera) return;
    void this.close();
    this.ports.view.complain(this.ports.cameraEnded());
  }

  private async play(mode: Mode): Promise<void> {
    const { view } = this.ports;
    const turn = this.enter({ name: mode });
    void this.camera?.serve(mode);
    if (mode === "camera") return view.begin([]);
    let models = this.ports.models();
    view.begin(models);
    view.rate(0);
    // One is taken away before another is chosen: the video goes on meanwhile.
    if (models.length === 0) return;
    let smoothed = 0;
    let last = this.ports.now();
    while (turn === this.turn) {
      try {
        const frame = await this.ports.camera.frame();
        const answers = await this.run(turn, frame, models).finally(() => frame.close());
        if (!answers) return;
        // A model that has failed has said so; it is not asked again for each frame.
        models = answers.map(([model]) => model);
        if (models.length === 0) return void this.leave();
      } catch (error) {
        if (turn !== this.turn) return;
        this.leave();
        return view.complain(error);
      }
      const now = this.ports.now();
      const rate = 1000 / Math.max(now - last, 1e-3);
      smoothed = smoothed ? 0.8 * smoothed + 0.2 * rate : rate;
      last = now;
      view.rate(smoothed);
    }
  }

  /** Every model's answer for an image; null where something else has begun meanwhile. */
  private async run(
    turn: number,
    image: Blob | ImageBitmap,
    models: readonly Model[],
  ): Promise<(readonly [Model, Answer])[] | null> {
    const { view } = this.ports;
    const key = ++this.keys;
    const answers: (readonly [Model, Answer])[] = [];
    for (const [index, model] of models.entries()) {
      const last = index === models.length - 1;
      try {
        const answer = await this.alone(turn, () => this.ports.ask(model, image, key, last));
        if (turn !== this.turn || answer === undefined) return null;
        view.answer(model, answer, image);
        answers.push([model, answer]);
      } catch (error) {
        if (turn !== this.turn) return null;
        view.failed(model, error);
      }
    }
    return turn === this.turn ? answers : null;
  }

  /** One request at a time, so that a fast hand's images do not wait for those it has passed over. */
  private alone<T>(turn: number, work: () => Promise<T>): Promise<T | undefined> {
    const next = this.tail.then(() => (turn === this.turn ? work() : undefined));
    this.tail = next.catch(() => undefined);
    return next;
  }
}
