/** The application: choose or capture an image, predict, compare models. */
import { RUNTIMES, type RuntimeName } from "../infer";
import { Camera } from "./camera";
import { byId, make } from "./dom";
import { Engine, EngineError } from "./engine";
import { imageFrom, readImage, UserError } from "./image_input";
import { keepForOffline, registerServiceWorker } from "./offline";
import type { ModelSpec } from "./protocol";
import { failureText, modelCard, resultCard, showPrediction, statusOf } from "./results";
import { readSite, type Site, type SiteModel } from "./site";
import { text } from "./text";

const TOP = 5;

const stage = byId("stage");
const preview = byId<HTMLCanvasElement>("preview");
const video = byId<HTMLVideoElement>("video");
const fileInput = byId<HTMLInputElement>("file");
const predictButton = byId<HTMLButtonElement>("predict");
const cameraButton = byId<HTMLButtonElement>("camera");
const liveButton = byId<HTMLButtonElement>("live");
const runtimeSelect = byId<HTMLSelectElement>("runtime");
const results = byId("results");
const rate = byId("rate");

const engine = new Engine();
const camera = new Camera(video);
let site: Site = { models: [], samples: [] };
let image: ImageBitmap | undefined;
let live = false;
let busy = false;
let preparations = 0;

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

function selectedModels(): SiteModel[] {
  const chosen = [...byId("models").querySelectorAll<HTMLInputElement>("input:checked")];
  const ids = new Set(chosen.map(({ value }) => value));
  return site.models.length === 1 ? site.models : site.models.filter(({ id }) => ids.has(id));
}

function specOf(model: SiteModel): ModelSpec {
  const { tflite, tfjs } = model.files;
  const source = { ...(tflite && { tflite }), ...(tfjs && { tfjs }) };
  return { id: model.id, source, runtime: runtimeSelect.value as RuntimeName | "auto" };
}

function refresh(): void {
  stage.dataset.state = camera.open ? "camera" : image ? "image" : "empty";
  stage.toggleAttribute("data-mirror", camera.mirrored);
  preview.hidden = camera.open || !image;
  video.hidden = !camera.open;
  byId("hint").hidden = camera.open || image !== undefined;
  byId("camera-bar").hidden = !camera.open;
  rate.hidden = !live;
  cameraButton.setAttribute("aria-pressed", String(camera.open && !live));
  liveButton.setAttribute("aria-pressed", String(live));
  predictButton.disabled = busy || live || (!image && !camera.open) || selectedModels().length === 0;
}

function showImage(bitmap: ImageBitmap): void {
  image?.close();
  image = bitmap;
  const scale = Math.min(1, 1024 / Math.max(bitmap.width, bitmap.height));
  preview.width = Math.max(1, Math.round(bitmap.width * scale));
  preview.height = Math.max(1, Math.round(bitmap.height * scale));
  // An icon or a scanned digit is clearer with its pixels visible.
  preview.style.imageRendering = Math.max(bitmap.width, bitmap.height) < 64 ? "pixelated" : "auto";
  preview.getContext("2d")?.drawImage(bitmap, 0, 0, preview.width, preview.height);
  refresh();
}

async function choose(blob: Blob, sample?: HTMLElement): Promise<void> {
  say("error", "");
  say("message", "");
  for (const button of byId("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button === sample));
  }
  try {
    const { bitmap, animated } = await readImage(blob);
    closeCamera();
    showImage(bitmap);
    if (animated) say("message", text.animated);
  } catch (error) {
    complain(error);
  }
}

/** Predicts with every selected model, one after the other so that their times can be compared. */
async function predictAll(bitmap: ImageBitmap, cards: Map<string, HTMLElement>): Promise<string[]> {
  const summaries: string[] = [];
  for (const model of selectedModels()) {
    const card = cards.get(model.id);
    if (!card) continue;
    const copy = await createImageBitmap(bitmap);
    const argument = { spec: specOf(model), image: copy, count: TOP };
    try {
      const answer = await engine.request("classify", argument, [copy]);
      showPrediction(card, answer);
      showStatus(model, statusOf(model.name, answer.state));
      const first = answer.predictions[0]!;
      summaries.push(text.predicted(model.name, first.label, text.percent(first.probability)));
    } catch (error) {
      // The other models are tried all the same.
      card.remove();
      cards.delete(model.id);
      complain(error);
    }
  }
  return summaries;
}

function newCards(): Map<string, HTMLElement> {
  const cards = new Map(selectedModels().map(({ id, name }) => [id, resultCard(name)]));
  results.replaceChildren(...cards.values());
  return cards;
}

async function predict(): Promise<void> {
  busy = true;
  say("error", "");
  try {
    if (camera.open) await capture();
    if (!image) return;
    refresh();
    const summaries = await predictAll(image, newCards());
    byId("announcement").textContent = summaries.join("; ");
    results.scrollIntoView({ block: "nearest" });
    if (summaries.length > 0) void keepForOffline(engine);
  } catch (error) {
    complain(error);
  } finally {
    busy = false;
    refresh();
  }
}

async function openCamera(start: () => Promise<void>): Promise<boolean> {
  say("error", "");
  try {
    await start();
    return true;
  } catch (error) {
    live = false;
    complain(error);
    return false;
  } finally {
    refresh();
  }
}

function closeCamera(): void {
  live = false;
  camera.stop();
  refresh();
}

async function capture(): Promise<void> {
  const bitmap = await camera.frame();
  closeCamera();
  showImage(bitmap);
}

/** Predicts frame after frame until the camera is closed. */
async function runLive(): Promise<void> {
  live = true;
  if (!camera.open && !(await openCamera(() => camera.start()))) return;
  refresh();
  const cards = newCards();
  let smoothed = 0;
  let last = performance.now();
  try {
    while (live && camera.open && cards.size > 0) {
      const frame = await camera.frame();
      await predictAll(frame, cards).finally(() => frame.close());
      const now = performance.now();
      const current = 1000 / (now - last);
      smoothed = smoothed ? 0.8 * smoothed + 0.2 * current : current;
      last = now;
      rate.textContent = text.framesPerSecond(smoothed);
    }
  } catch (error) {
    complain(error);
  } finally {
    // The person may have gone on to taking a picture.
    if (live) closeCamera();
  }
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

/** Loads the selected models while the person looks for an image. */
async function prepare(): Promise<void> {
  const turn = ++preparations;
  byId("status").replaceChildren();
  say("error", "");
  refresh();
  for (const model of selectedModels()) {
    const show = (line: Node) => turn === preparations && showStatus(model, line);
    show(make("p", {}, text.loading(model.name)));
    try {
      show(statusOf(model.name, await engine.request("prepare", { spec: specOf(model) })));
    } catch (error) {
      show(make("p", {}, text.notLoaded(model.name)));
      if (turn === preparations) complain(error);
    }
    // The selection has changed meanwhile, and another call sees to it.
    if (turn !== preparations) return;
  }
  void keepForOffline(engine);
}

function showModels(): void {
  byId("models-box").hidden = site.models.length < 2;
  site.models.forEach(({ id, name }, index) => {
    const box = make("input", { type: "checkbox", value: id });
    box.checked = index === 0;
    box.addEventListener("change", () => void prepare());
    byId("models").append(make("label", {}, box, name));
  });
  byId("cards").replaceChildren(
    ...site.models.map(({ name, reports }) => modelCard(name, (reports.tflite ?? reports.tfjs)!)),
  );
}

function showSamples(): void {
  byId("samples-box").hidden = site.samples.length === 0;
  site.samples.forEach((url, index) => {
    const picture = make("img", { src: url, alt: text.sample(index + 1), loading: "lazy" });
    const button = make("button", { type: "button", "aria-pressed": "false" }, picture);
    button.addEventListener("click", async () => choose(await (await fetch(url)).blob(), button));
    byId("samples").append(make("li", {}, button));
  });
}

function showRuntimes(): void {
  runtimeSelect.append(make("option", { value: "auto" }, text.automatic));
  for (const name of RUNTIMES) {
    runtimeSelect.append(make("option", { value: name }, text.runtimes[name]));
  }
  runtimeSelect.addEventListener("change", () => void prepare());
}

function listen(): void {
  fileInput.addEventListener("change", () => {
    const file = fileInput.files?.[0];
    if (file) void choose(file);
    // The same file may be chosen again.
    fileInput.value = "";
  });
  predictButton.addEventListener("click", () => void predict());
  cameraButton.addEventListener("click", () => {
    if (live) live = false;
    else if (camera.open) return closeCamera();
    if (camera.open) refresh();
    else void openCamera(() => camera.start());
  });
  liveButton.addEventListener("click", () => (live ? closeCamera() : void runLive()));
  byId("capture").addEventListener("click", () => void capture());
  byId("switch").addEventListener("click", () => void openCamera(() => camera.switchSide()));
  byId("stop").addEventListener("click", closeCamera);
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
    const file = imageFrom(event.dataTransfer);
    if (file) void choose(file);
  });
  document.addEventListener("paste", (event) => {
    const file = imageFrom(event.clipboardData);
    if (file) void choose(file);
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
  showModels();
  showSamples();
  await prepare();
}

void start();
