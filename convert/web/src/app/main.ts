/** The application: wires the page's elements to the session and to the worker. */
import { RUNTIMES, type RuntimeName, type Size } from "../infer";
import { Automatic } from "./automatic";
import { Board } from "./board";
import { Camera, type Mode } from "./camera";
import { byId, make } from "./dom";
import { Engine, EngineError } from "./engine";
import { droppedEntries, Folder } from "./folder";
import { type ChosenImage, fileFrom, isModel, readImage, UserError } from "./image_input";
import { keepForOffline, registerServiceWorker } from "./offline";
import type { Answer, ModelSpec, ModelState, Progress } from "./protocol";
import { failureText, modelCard, statusOf } from "./results";
import { type Picture, Session, type State } from "./session";
import { copyText, sharePicture } from "./share";
import { linkedModels, linkTo, modelOfFile, readSite, type Site, type SiteModel } from "./site";
import { Overlay } from "./stage/overlay";
import { text } from "./text";

const stage = byId("stage");
const preview = byId<HTMLCanvasElement>("preview");
const fileInput = byId<HTMLInputElement>("file");
const runtimeSelect = byId<HTMLSelectElement>("runtime");
const results = byId("results");

const engine = new Engine(showProgress);
const camera = new Camera(byId<HTMLVideoElement>("video"));
const overlay = new Overlay(stage, byId<HTMLCanvasElement>("mask"), byId<HTMLCanvasElement>("boxes"));
const board = new Board({
  results,
  headline: byId("answer"),
  announcement: byId("announcement"),
  control: byId("control"),
  overlay,
  measured: (model, running) => (isAutomatic() ? automatic.milliseconds(model, running) : undefined),
});
let site: Site = { models: [], samples: [] };

function say(id: "message" | "error", sentence: string): void {
  const line = byId(id);
  line.textContent = sentence;
  line.hidden = sentence === "";
}

function complain(error: unknown): void {
  if (error instanceof UserError) say("error", error.message);
  else if (error instanceof EngineError) say("error", failureText(error.failure));
  else say("error", text.errors.unexpected(error instanceof Error ? error.message : String(error)));
}

/** What a person does: earlier messages go. */
function act(action: () => unknown): void {
  say("error", "");
  say("message", "");
  void Promise.resolve(action()).catch(complain);
}

function selectedModels(): SiteModel[] {
  const chosen = [...byId("models").querySelectorAll<HTMLInputElement>("input:checked")];
  const ids = new Set(chosen.map(({ value }) => value));
  return site.models.length === 1 ? site.models : site.models.filter(({ id }) => ids.has(id));
}

/** Whether the runtime is the page's choice. */
function isAutomatic(): boolean {
  return runtimeSelect.value === "auto";
}

function specOf(model: SiteModel): ModelSpec {
  const { tflite, tfjs } = model.files;
  const source = model.file ?? { ...(tflite && { tflite }), ...(tfjs && { tfjs }) };
  const chosen = runtimeSelect.value as RuntimeName | "auto";
  const runtime = isAutomatic() ? (automatic.ways(model) ?? "auto") : chosen;
  return { id: model.id, source, runtime, bytes: model.reports.tflite?.bytes };
}

function showState(state: State): void {
  const mode = state.name === "opening" || state.name === "paused" ? state.mode : state.name;
  const isOn = state.name === "camera" || state.name === "live";
  const hasCamera = mode === "camera" || mode === "live";
  stage.dataset.state = hasCamera ? "camera" : state.name;
  stage.toggleAttribute("data-mirror", isOn && camera.mirrored);
  // On live video it comes with the first answer that is drawn into a frame.
  preview.hidden = state.name !== "image";
  byId("video").hidden = !isOn;
  byId("hint").hidden = state.name !== "empty";
  byId("waiting").hidden = state.name !== "opening";
  byId("camera-bar").hidden = !hasCamera;
  byId<HTMLButtonElement>("capture").disabled = !isOn;
  byId("rate").hidden = state.name !== "live";
  if (state.name === "empty") byId("control").hidden = true;
  // There is nothing to set until a picture is taken; the buttons below stay where they are.
  byId("control").style.visibility = state.name === "camera" ? "hidden" : "";
  byId("camera").setAttribute("aria-pressed", String(mode === "camera"));
  byId("live").setAttribute("aria-pressed", String(mode === "live"));
  const again = byId<HTMLButtonElement>("predict");
  again.hidden = state.name !== "image";
  again.disabled = state.name !== "image" || state.predicting || selectedModels().length === 0;
  byId("copy").hidden = state.name !== "image" || !board.isDone;
  byId("save").hidden = state.name !== "image" || !board.isDone || !board.isDrawn;
  results.setAttribute("aria-busy", String(state.name === "image" && state.predicting));
}

/** Longer side of what is shown, in pixels. */
const SHOWN_SIDE = 1024;

/** Widths for each height that the stage takes; others stand in the middle of it. */
const WIDEST = 1.8;
const NARROWEST = 1;

/** Gives the stage a picture's shape: on a phone what is below comes up. */
function shapeStage(width: number, height: number): void {
  if (height > 0) stage.style.aspectRatio = String(Math.min(Math.max(width / height, NARROWEST), WIDEST));
}

function showPicture(picture: Picture): void {
  const shown = (picture as Partial<ChosenImage>).preview ?? (picture.image as ImageBitmap);
  shapeStage(shown.width, shown.height);
  const scale = Math.min(1, SHOWN_SIDE / Math.max(shown.width, shown.height));
  drawPreview(shown, Math.max(1, Math.round(shown.width * scale)), Math.max(1, Math.round(shown.height * scale)));
  // An icon or a scanned digit is clearer with its pixels visible.
  stage.toggleAttribute("data-pixels", Math.max(shown.width, shown.height) < 64);
  if ((picture as Partial<ChosenImage>).animated) say("message", text.animated);
}

function drawPreview(image: ImageBitmap, width: number, height: number): void {
  if (preview.width !== width || preview.height !== height) {
    [preview.width, preview.height] = [width, height];
  }
  const context = preview.getContext("2d");
  context?.clearRect(0, 0, width, height);
  context?.drawImage(image, 0, 0, width, height);
}

/** Shows the frame that an answer was found in: the video itself has gone on meanwhile. */
function showFrame(frame: ImageBitmap): void {
  stage.removeAttribute("data-pixels");
  drawPreview(frame, frame.width, frame.height);
  preview.hidden = false;
}

/** Height and width at which an image is shown: a live frame is shown as it is. */
function shownSize(image: Blob | ImageBitmap): Size {
  if (session.state.name === "live" && !(image instanceof Blob)) return [image.height, image.width];
  return [preview.height, preview.width];
}

function showStatus(model: SiteModel, line: Node): void {
  const status = byId("status");
  const box = make("div", { "data-model": model.id }, line);
  const old = status.querySelector(`[data-model="${CSS.escape(model.id)}"]`);
  if (old) {
    const wasOpen = old.querySelector("details")?.open ?? false;
    box.querySelector("details")?.toggleAttribute("open", wasOpen);
    old.replaceWith(box);
  } else status.append(box);
}

/** What runs, and what is known of the others. */
function showRunning(model: SiteModel, state: ModelState): void {
  const again = () => act(() => measureAgain(model));
  showStatus(model, statusOf(model.title, state, isAutomatic() ? automatic.words(model, again) : null));
}

async function measureAgain(model: SiteModel): Promise<void> {
  automatic.forget(model);
  // The button goes.
  runtimeSelect.focus();
  await session.configure();
}

/** Loads a model, as where it was found that another runtime is faster. */
async function prepare(model: SiteModel): Promise<void> {
  const { description, ...state } = await engine.request("prepare", { spec: specOf(model) });
  if (model.file) showFile(model, description);
  showRunning(model, state);
  void keepForOffline(engine);
}

/** What is measured wants the processor for itself. */
function rest(): void {
  const { state } = session;
  const computes = state.name === "image" ? state.predicting : state.name !== "empty";
  // A hidden page is slowed down.
  automatic.rest(!computes && !folder.isRunning && !document.hidden);
}

/** How far a model's files have come, and a way to do without it where there are others. */
function showProgress({ model: id, part, received, total }: Progress): void {
  const model = selectedModels().find((other) => other.id === id);
  if (!model) return;
  const count = text.loaded(text.bytes(received), total ? text.bytes(total) : "");
  const what = part === "runtime" ? text.loadingRuntime : text.loading(model.title);
  const line = make("div", {}, make("p", {}, `${what} ${count}`));
  const bar = make("progress", { "aria-label": what });
  if (total) [bar.max, bar.value] = [total, received];
  line.append(bar);
  if (site.models.length > 1) {
    const cancel = make("button", { class: "link cancel", type: "button" }, text.cancel);
    cancel.addEventListener("click", () => act(() => deselect(model)));
    line.append(cancel);
  }
  showStatus(model, line);
}

async function deselect(model: SiteModel): Promise<void> {
  showModels(new Set(selectedModels().flatMap(({ id }) => (id === model.id ? [] : [id]))));
  await configure();
}

const session: Session<SiteModel, Answer> = new Session<SiteModel, Answer>({
  view: {
    changed(state) {
      showState(state);
      rest();
    },
    showPicture,
    begin: (models) => board.begin(models),
    answer(model, answer, image) {
      const isLive = session.state.name === "live";
      if (isLive && board.draws(model, answer)) showFrame(image as ImageBitmap);
      // What was drawn before may have been switched off: the video is shown again.
      else if (isLive && board.leads(model)) preview.hidden = true;
      board.answer(model, answer, isLive);
      if (isAutomatic()) automatic.answered(model, image);
      showRunning(model, answer.state);
      // An answer does not say what else stands in a given file.
      if (isUnknown(model)) void prepare(model).catch(() => undefined);
    },
    failed(model, error) {
      board.failed(model);
      showStatus(model, make("p", {}, text.notLoaded(model.title)));
      complain(error);
      if (isUnknown(model)) void withdraw(model).catch(complain);
    },
    done(answers) {
      board.announce();
      if (answers.length > 0) void keepForOffline(engine);
    },
    loading(model) {
      showStatus(model, make("p", {}, text.loading(model.title)));
    },
    rate(framesPerSecond) {
      byId("rate").textContent = framesPerSecond > 0 ? text.framesPerSecond(framesPerSecond) : "";
    },
    complain,
  },
  camera,
  models: selectedModels,
  read: readImage,
  ask: (model, image, key, last) =>
    engine.request("predict", { spec: specOf(model), image, shown: shownSize(image), key, last }),
  prepare,
  retain: async (models) => {
    await engine.request("retain", { ids: models.map(({ id }) => id) });
  },
  cameraEnded: () => new UserError(text.errors.camera_ended),
  now: () => performance.now(),
});

const folder = new Folder({ engine, models: selectedModels, specOf, act, complain, changed: rest });

const automatic = new Automatic({
  engine,
  specOf,
  async changed(model) {
    if (isAutomatic() && selectedModels().includes(model)) await prepare(model);
    board.redraw();
  },
});

/** Chooses an image; `button` is the sample that it came from. */
async function choose(load: () => Promise<Blob>, button?: HTMLElement): Promise<void> {
  // Only once it is shown: until then another sample's image is.
  const mark = () => {
    for (const other of byId("samples").querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  };
  await session.choose(load, mark);
}

/** Images and models: what is dropped, pasted or chosen. */
function take(file: File): void {
  if (isModel(file)) act(() => addFile(file));
  else act(() => choose(() => Promise.resolve(file)));
}

/** What was selected before a given file, by its name. */
const replaced = new Map<string, readonly SiteModel[]>();

/** Adds a model that a person gave the page, and selects it alone. */
async function addFile(file: File): Promise<void> {
  const model = modelOfFile(file);
  replaced.set(model.id, selectedModels());
  site.models.push(model);
  showModels(new Set([model.id]));
  await configure();
}

/** Whether a model is a given file that has not said what it is. */
function isUnknown({ file, reports }: SiteModel): boolean {
  return file !== undefined && reports.tflite === undefined;
}

/** Leaves out a given file that is no model of this page's: what was selected before stands again. */
async function withdraw(model: SiteModel): Promise<void> {
  site.models = site.models.filter((other) => other !== model);
  const others = selectedModels();
  const selected = others.length > 0 ? others : (replaced.get(model.id) ?? []);
  showModels(new Set(selected.map(({ id }) => id)));
  await configure();
}

/** A given file's name and card, once it has said what it is. */
function showFile(model: SiteModel, description: Parameters<typeof modelOfFile>[1]): void {
  Object.assign(model, modelOfFile(model.file!, description, model.id));
  showModels(new Set(selectedModels().map(({ id }) => id)));
  folder.offer();
}

async function configure(): Promise<void> {
  folder.stop();
  automatic.keepOnly(isAutomatic() ? selectedModels() : []);
  byId("status").replaceChildren();
  // The address becomes a link that opens these models.
  history.replaceState(null, "", linkTo(location.href, site.models, selectedModels()));
  await session.configure();
}

function showModels(selected: ReadonlySet<string>): void {
  byId("models-box").hidden = site.models.length < 2;
  byId("models").replaceChildren(
    ...site.models.map(({ id, title, detail }) => {
      const box = make("input", { type: "checkbox", value: id });
      box.checked = selected.has(id);
      box.addEventListener("change", () => act(configure));
      return make("label", {}, box, make("span", {}, title, make("small", {}, detail)));
    }),
  );
  byId("cards").replaceChildren(
    ...site.models.flatMap(({ title, reports }) => {
      const report = reports.tflite ?? reports.tfjs;
      return report ? [modelCard(title, report)] : [];
    }),
  );
}

function showSamples(): void {
  byId("samples-box").hidden = site.samples.length === 0;
  site.samples.forEach((url, index) => {
    const picture = make("img", { src: url, alt: text.sample(index + 1), loading: "lazy" });
    const button = make("button", { type: "button", "aria-pressed": "false" }, picture);
    button.addEventListener("click", () => act(() => choose(() => fetchBlob(url), button)));
    byId("samples").append(make("li", {}, button));
  });
}

async function fetchBlob(url: string): Promise<Blob> {
  try {
    const response = await fetch(url);
    if (response.ok) return await response.blob();
  } catch {
    // Said below.
  }
  throw new UserError(text.errors.not_found(decodeURI(new URL(url).pathname)));
}

function showRuntimes(): void {
  runtimeSelect.append(make("option", { value: "auto" }, text.automatic));
  for (const name of RUNTIMES) {
    runtimeSelect.append(make("option", { value: name }, text.runtimes[name]));
  }
  runtimeSelect.addEventListener("change", () => act(configure));
}

async function copyResult(): Promise<void> {
  await copyText(board.words());
  say("message", text.copied);
}

async function savePicture(): Promise<void> {
  await sharePicture(await overlay.picture(preview), text.pictureName);
}

/** A press of a camera button: opens it in this mode, or closes it. */
function toggle(mode: Mode): void {
  act(() => (session.state.name === mode ? session.close() : session.open(mode)));
}

/** Has a file that a person chooses taken. */
function onFile(input: HTMLInputElement, chosen: (file: File) => void): void {
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    if (file) chosen(file);
    // The same file may be chosen again.
    input.value = "";
  });
}

function listen(): void {
  onFile(fileInput, take);
  // Of any name: a phone that knows no such files would offer none.
  onFile(byId("model-file"), (file) => act(() => addFile(file)));
  byId("predict").addEventListener("click", () => act(() => session.predict()));
  // What can be saved has changed.
  byId("control").addEventListener("click", () => showState(session.state));
  byId("copy").addEventListener("click", () => act(copyResult));
  byId("save").addEventListener("click", () => act(savePicture));
  byId("camera").addEventListener("click", () => toggle("camera"));
  byId("live").addEventListener("click", () => toggle("live"));
  byId("capture").addEventListener("click", () => act(() => session.capture()));
  byId("switch").addEventListener("click", () => act(() => session.switchSide()));
  byId("stop").addEventListener("click", () => act(() => session.close()));
  const video = byId<HTMLVideoElement>("video");
  // Also where a phone is turned.
  video.addEventListener("resize", () => shapeStage(video.videoWidth, video.videoHeight));
  document.addEventListener("visibilitychange", () => {
    void session.hide(document.hidden);
    rest();
  });
  window.addEventListener("pagehide", () => void session.hide(true));
  for (const kind of ["dragenter", "dragover"] as const) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      stage.dataset.over = "";
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) delete stage.dataset.over;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    delete stage.dataset.over;
    const entries = droppedEntries(event.dataTransfer);
    const file = fileFrom(event.dataTransfer);
    if (entries) act(async () => folder.take(await entries));
    else if (file) take(file);
  });
  document.addEventListener("paste", (event) => {
    const file = fileFrom(event.clipboardData);
    if (file) take(file);
    else say("error", text.errors.no_image_pasted);
  });
}

/** Offers the installation where the browser says that it is possible. */
function offerInstallation(): void {
  const button = byId("install");
  window.addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    button.hidden = false;
    button.onclick = () => void (event as Event & { prompt(): Promise<void> }).prompt();
  });
  window.addEventListener("appinstalled", () => {
    button.hidden = true;
  });
}

async function start(): Promise<void> {
  showRuntimes();
  listen();
  offerInstallation();
  registerServiceWorker();
  try {
    site = await readSite(document.baseURI);
    if (site.models.length === 0) throw new UserError(text.errors.no_models);
  } catch (error) {
    complain(error);
    return;
  }
  showModels(new Set(linkedModels(location.href, site.models).map(({ id }) => id)));
  showSamples();
  await configure();
}

void start().catch(complain);
