/** A folder of images classified at once: the choice of it, its run, its table. */
import { byId } from "../dom";
import { type Engine, EngineError } from "../engine";
import { MAX_MEGAPIXELS, megapixelsOf, UserError } from "../image_input";
import type { ModelSpec } from "../protocol";
import { failureText } from "../results";
import { saveFile } from "../share";
import type { SiteModel } from "../site";
import { text } from "../text";
import { Batch } from "./batch";
import { chosenEntries, type Entry } from "./entries";
import { Panel } from "./panel";

export { droppedEntries } from "./entries";

/** What can be asked of a folder. */
const TASK = "classification";

/** The part of the page that a folder needs. */
export interface Page {
  engine: Engine;
  models(): readonly SiteModel[];
  specOf(model: SiteModel): ModelSpec;
  /** Does what a person has asked for; earlier messages go. */
  act(action: () => unknown): void;
  complain(error: unknown): void;
  /** A run has begun or ended. */
  changed(): void;
}

async function obstacle(file: File): Promise<string | null> {
  const megapixels = await megapixelsOf(file);
  if (megapixels === null) return text.folderNoImage;
  const isTooLarge = megapixels > MAX_MEGAPIXELS;
  return isTooLarge ? text.errors.too_large(Math.round(megapixels), MAX_MEGAPIXELS) : null;
}

const isNoImage = (error: unknown) =>
  error instanceof EngineError && error.failure.code === "not_an_image";

function reason(error: unknown): string {
  if (isNoImage(error)) return text.folderNoImage;
  if (error instanceof EngineError) return failureText(error.failure);
  return error instanceof Error ? error.message : String(error);
}

export class Folder {
  private readonly panel: Panel;
  private readonly batch: Batch<SiteModel>;
  private entries: readonly Entry[] = [];

  constructor(private readonly page: Page) {
    const { engine, specOf } = page;
    this.panel = new Panel(page.complain);
    this.batch = new Batch<SiteModel>({
      view: this.panel,
      async open(model) {
        const { description } = await engine.request("prepare", { spec: specOf(model) });
        if (description.task !== TASK) throw new UserError(text.folderTask);
        return description.class_names;
      },
      obstacle,
      async ask(model, file, key, last) {
        const spec = specOf(model);
        const answer = await engine.request("predict", { spec, image: file, shown: [1, 1], key, last });
        if (answer.task !== TASK) throw new UserError(text.folderTask);
        const { label, probability } = answer.found.predictions[0]!;
        return { label, probability, milliseconds: answer.state.timings.inference };
      },
      reason,
      isOfImage: isNoImage,
    });
    for (const id of ["folder-files", "folder-several"]) {
      const input = byId<HTMLInputElement>(id);
      input.addEventListener("change", () => {
        const entries = chosenEntries(input);
        // The same folder may be chosen again.
        input.value = "";
        page.act(() => this.take(entries));
      });
    }
    byId("folder-stop").addEventListener("click", () => page.act(() => this.stop()));
    byId("folder-again").addEventListener("click", () => page.act(() => this.run()));
    byId("folder-save").addEventListener("click", () => saveFile(this.panel.csv(), text.folderFile));
    // Most phones know no folders.
    const hasFolders = "webkitdirectory" in HTMLInputElement.prototype;
    byId("folder-files").hidden = !hasFolders;
    byId("folder-files-label").hidden = !hasFolders;
  }

  /** Classifies these files. */
  async take(entries: readonly Entry[]): Promise<void> {
    if (this.models().length === 0) throw new UserError(text.folderTask);
    if (entries.length === 0) throw new UserError(text.folderEmpty);
    this.entries = entries;
    await this.run();
  }

  get isRunning(): boolean {
    return this.batch.isRunning;
  }

  /** Ends what runs, as where other models are chosen, and offers what fits those. */
  stop(): void {
    this.batch.stop();
    this.offer();
  }

  /** Offers what the selected models can do, or says why they cannot. */
  offer(): void {
    const isOffered = this.models().length > 0;
    byId("folder-choice").hidden = !isOffered;
    byId("folder-hint").textContent = isOffered ? text.folderHint : text.folderTask;
    const { isRunning } = this.batch;
    const [stop, again] = [byId("folder-stop"), byId("folder-again")];
    const hadFocus = document.activeElement === stop || document.activeElement === again;
    stop.hidden = !isRunning;
    again.hidden = isRunning || this.entries.length === 0;
    // One takes the other's place.
    if (hadFocus) (isRunning ? stop : again).focus();
    this.page.changed();
  }

  private async run(): Promise<void> {
    const run = this.batch.run(this.entries, this.models());
    this.offer();
    await run;
    this.offer();
  }

  /** The selected models that a folder can be asked of; a file says what it is once it is loaded. */
  private models(): SiteModel[] {
    return this.page.models().filter(({ reports }) => {
      const report = reports.tflite ?? reports.tfjs;
      return !report || report.task === TASK;
    });
  }
}
