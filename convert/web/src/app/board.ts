/** What the models say: their cards, how the others compare with the first one, and the first one's answer on the picture. */
import type { Running } from "../infer";
import { comparison, type Side } from "./comparison";
import { make } from "./dom";
import type { Answer, TaskName } from "./protocol";
import { fillCard, resultCard } from "./results";
import type { SiteModel } from "./site";
import type { Overlay } from "./stage/overlay";
import { text } from "./text";
import { makeViews, viewOf } from "./views";
import type { Control } from "./views/view";

/** The elements that it fills. */
export interface Places {
  results: HTMLElement;
  headline: HTMLElement;
  announcement: HTMLElement;
  /** The slider with its words; hidden where nothing is to be set. */
  control: HTMLElement;
  overlay: Overlay;
  /** Milliseconds that were measured of what runs, if any were: a single run may be disturbed. */
  measured(model: SiteModel, running: Running): number | undefined;
}

/** What the latest frame's time counts beside those before it. */
const NEWS = 0.2;

export class Board {
  private cards = new Map<SiteModel, HTMLElement>();
  private answers = new Map<SiteModel, Answer>();
  /** Milliseconds of each model alone. */
  private times = new Map<SiteModel, number>();
  private readonly views = makeViews(() => this.redraw());

  constructor(private readonly places: Places) {
    const slider = places.control.querySelector("input")!;
    slider.addEventListener("input", () => {
      const control = this.control();
      if (control) control.value = slider.valueAsNumber;
      this.redraw();
    });
    places.control.querySelector("button")!.addEventListener("click", () => {
      const control = this.control();
      if (control) control.isOn = !control.isOn;
      this.redraw();
    });
  }

  /** Whether a picture's answers are all there. */
  get isDone(): boolean {
    return this.answers.size > 0 && this.answers.size === this.cards.size;
  }

  begin(models: readonly SiteModel[]): void {
    const { results, overlay, announcement } = this.places;
    this.answers = new Map();
    this.times = new Map();
    this.cards = new Map(models.map((model) => [model, resultCard(model.title)]));
    const placeholder = make("p", { class: "placeholder" }, text.noResults);
    results.replaceChildren(...(this.cards.size > 0 ? this.cards.values() : [placeholder]));
    announcement.textContent = "";
    overlay.clear();
    this.showHeadline([]);
  }

  /** @param isLive Whether it is of a video's frame: what was shown before may count, too. */
  answer(model: SiteModel, answer: Answer, isLive: boolean): void {
    const shown = isLive ? this.blended(model, answer) : answer;
    this.answers.set(model, shown);
    const { inference } = answer.state.timings;
    const before = (isLive && this.times.get(model)) || inference;
    this.times.set(model, before + NEWS * (inference - before));
    this.show(model, shown);
  }

  failed(model: SiteModel): void {
    if (model === this.first()) {
      this.places.overlay.clear();
      this.showHeadline([]);
    }
    this.cards.get(model)?.remove();
    this.cards.delete(model);
    this.answers.delete(model);
    // Another one may be the first now.
    this.redraw();
  }

  /** Says what was found to those who do not see it. */
  announce(): void {
    this.places.announcement.textContent = [...this.answers]
      .map(([{ title }, answer]) => text.predicted(title, viewOf(this.views, answer).summary(answer.found)))
      .join("; ");
  }

  /** Every model's answer as a line of text. */
  words(): string {
    return [...this.answers]
      .map(([{ title }, answer]) => `${title}: ${viewOf(this.views, answer).words(answer.found)}`)
      .join("\n");
  }

  /** Whether an answer is drawn onto the picture that it was found in. */
  draws(model: SiteModel, answer: Answer): boolean {
    const view = viewOf(this.views, answer);
    return this.leads(model) && view.draw !== undefined && view.isDrawn?.(answer.found) !== false;
  }

  /** Whether a model's answer is the one that stands on the picture. */
  leads(model: SiteModel): boolean {
    return model === this.first();
  }

  /** Whether something is drawn over the picture. */
  get isDrawn(): boolean {
    const first = this.first();
    const answer = first && this.answers.get(first);
    return answer !== undefined && this.draws(first!, answer);
  }

  private first(): SiteModel | undefined {
    return this.cards.keys().next().value;
  }

  private blended<Task extends TaskName>(model: SiteModel, answer: Answer<Task>): Answer<Task> {
    const previous = this.answers.get(model) as Answer<Task> | undefined;
    const view = viewOf(this.views, answer);
    if (previous?.task !== answer.task || !view.blend) return answer;
    return { ...answer, found: view.blend(previous.found, answer.found) };
  }

  /** Shows the same answers anew. */
  redraw(): void {
    for (const [model, answer] of this.answers) this.show(model, answer);
  }

  private show<Task extends TaskName>(model: SiteModel, answer: Answer<Task>): void {
    const card = this.cards.get(model);
    const view = viewOf(this.views, answer);
    if (card) view.show(fillCard(card, answer.state, this.comparisonOf(model)), answer.found);
    // The first model's answer stands on the image; the others' beside it.
    if (model !== this.first()) return;
    view.draw?.(this.places.overlay, answer.found);
    this.showHeadline(view.headline(answer.found));
    this.showControl();
  }

  /** How a model compares with the first one, in sentences. */
  private comparisonOf(model: SiteModel): string[] {
    const first = this.first();
    const [its, own] = [first && this.sideOf(first), this.sideOf(model)];
    return its && own && first !== model ? comparison(its, own) : [];
  }

  private sideOf(model: SiteModel): Side | undefined {
    const answer = this.answers.get(model);
    const measured = answer && this.places.measured(model, answer.state);
    return answer && { model, answer, milliseconds: this.times.get(model)!, measured };
  }

  private showHeadline(parts: readonly (Node | string)[]): void {
    this.places.headline.replaceChildren(...parts);
    this.places.headline.hidden = parts.length === 0;
  }

  private control(): Control | undefined {
    const first = this.first();
    const answer = first && this.answers.get(first);
    if (!answer) return undefined;
    const view = viewOf(this.views, answer);
    return view.isSettable?.(answer.found) === false ? undefined : view.control;
  }

  private showControl(): void {
    const { control: box } = this.places;
    const control = this.control();
    // It stays while the next answer is awaited, which mostly is of the same task.
    box.hidden = !control;
    if (!control) return;
    const label = box.querySelector("label")!;
    const button = box.querySelector("button")!;
    const slider = box.querySelector("input")!;
    const canBeOff = control.isOn !== undefined;
    label.textContent = button.textContent = control.label;
    [label.hidden, button.hidden] = [canBeOff, !canBeOff];
    button.setAttribute("aria-pressed", String(control.isOn === true));
    slider.setAttribute("aria-label", control.label);
    slider.disabled = control.isOn === false;
    slider.valueAsNumber = control.value;
    box.querySelector("output")!.textContent = text.wholePercent(control.value);
  }
}
