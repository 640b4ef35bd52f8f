/** What this site holds: `models.json`, written by the site builder. */
import type { Description } from "../infer";
import { text } from "./text";

/** The part of a description that is shown before the model is loaded. */
export type Summary = Pick<
  Description,
  "task" | "variant" | "size" | "precision" | "parameters" | "parity" | "accuracy"
> & { num_classes: number; bytes?: number };

export interface SiteModel {
  /** Name of the model's folder in the site. */
  id: string;
  /** What tools read; unique in the site. */
  name: string;
  /** What a person reads. */
  title: string;
  /** What tells it from others of the same title. */
  detail: string;
  /** Addresses, relative to the site. */
  files: { tflite?: string; tfjs?: string };
  /** A file that a person gave the page instead. */
  file?: File;
  reports: { tflite?: Summary; tfjs?: Summary };
}

export interface Site {
  models: SiteModel[];
  /** Addresses of sample images, relative to the site. */
  samples: string[];
}

type Entry = Omit<SiteModel, "title" | "detail">;

/**
 * "mobilevit_xxs" is "MobileViT XXS", "mobilevitv2_075" is "MobileViTv2 0.75"; other names stay as
 * they are.
 */
export function variantTitle(variant: string): string {
  const [, size] = /^mobilevit_(\w{1,4})$/.exec(variant) ?? [];
  if (size) return `${text.family} ${size.toUpperCase()}`;
  const [, width] = /^mobilevitv2_(\d{3})$/.exec(variant) ?? [];
  return width ? `${text.family}v2 ${Number(width) / 100}` : variant;
}

/** What models recognise where nothing else is said. */
const USUAL_TASK = "classification";

/** "MobileViT XXS, half precision" and "256 × 256 pixels, 2.6 MB". */
function described(report: Summary | undefined, name: string): { title: string; detail: string } {
  if (!report) return { title: name, detail: "" };
  const precision = text.precisions[report.precision] ?? report.precision;
  const facts = [text.pixels(report.size[0], report.size[1])];
  const task = text.tasks[report.task];
  if (task && report.task !== USUAL_TASK) facts.unshift(task);
  if (report.bytes) facts.push(text.bytes(report.bytes));
  return { title: `${variantTitle(report.variant)}, ${precision}`, detail: facts.join(", ") };
}

/** Titles for a person; where two would be equal, the name's rest tells them apart. */
export function titled(entries: readonly Entry[]): SiteModel[] {
  const models = entries.map((entry) => ({
    ...entry,
    ...described(entry.reports.tflite ?? entry.reports.tfjs, entry.name),
  }));
  const count = (title: string) => models.filter((model) => model.title === title).length;
  return models.map((model) => {
    const rest = model.name.split(" · ").slice(2).join(", ");
    return count(model.title) > 1 && rest ? { ...model, title: `${model.title} (${rest})` } : model;
  });
}

/** The site's contents, with absolute addresses. */
export async function readSite(base: string): Promise<Site> {
  const response = await fetch(new URL("models.json", base));
  if (!response.ok) throw new Error(`models.json: status ${response.status}`);
  const site = (await response.json()) as { models: Entry[]; samples: string[] };
  const absolute = (url: string | undefined) => (url ? new URL(url, base).href : undefined);
  return {
    models: titled(
      site.models.map((model) => ({
        ...model,
        files: { tflite: absolute(model.files.tflite), tfjs: absolute(model.files.tfjs) },
      })),
    ),
    samples: site.samples.map((url) => new URL(url, base).href),
  };
}

const LINKED = "model";

/** A name without the hash at its end, which another export changes. */
function plain(id: string): string {
  return id.replace(/-[0-9a-f]{10}$/, "");
}

/** The models that an address asks for, `?model=NAME` for each; else the first one. */
export function linkedModels(address: string, models: readonly SiteModel[]): SiteModel[] {
  const wanted = new URL(address).searchParams.getAll(LINKED);
  const found = models.filter(({ id }) => wanted.includes(id));
  if (found.length > 0) return found;
  // An older link, to the same model of an earlier export.
  const similar = models.filter(({ id }) => wanted.map(plain).includes(plain(id)));
  return similar.length > 0 ? similar : models.slice(0, 1);
}

/** The address that opens these models; of what a person gave the page there is none. */
export function linkTo(
  address: string,
  models: readonly SiteModel[],
  selected: readonly SiteModel[],
): string {
  const url = new URL(address);
  url.searchParams.delete(LINKED);
  const isUsual = selected.length === 1 && selected[0] === models[0];
  for (const { id, file } of isUsual ? [] : selected) {
    if (!file) url.searchParams.append(LINKED, id);
  }
  return url.href;
}

let given = 0;

/** A model from a file; what it says of itself is known once it is loaded. */
export function modelOfFile(file: File, description?: Description, id = `file-${++given}`): SiteModel {
  const entry: Entry = { id, name: file.name, files: {}, file, reports: {} };
  if (!description) return { ...entry, title: file.name, detail: "" };
  const report = { ...description, num_classes: description.class_names.length, bytes: file.size };
  const { detail } = described(report, file.name);
  return { ...entry, title: file.name, detail, reports: { tflite: report } };
}
