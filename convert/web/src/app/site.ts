/** What this site holds: `models.json`, written by the site builder. */
import type { Report } from "../infer";

/** The part of a report that is shown before the model is loaded. */
export type Summary = Pick<
  Report,
  "variant" | "num_classes" | "size" | "precision" | "bytes" | "parameters" | "parity" | "accuracy"
>;

export interface SiteModel {
  /** Name of the model's folder in the site. */
  id: string;
  /** What a person reads. */
  name: string;
  /** Addresses, relative to the site. */
  files: { tflite?: string; tfjs?: string };
  reports: { tflite?: Summary; tfjs?: Summary };
}

export interface Site {
  models: SiteModel[];
  /** Addresses of sample images, relative to the site. */
  samples: string[];
}

/** The site's contents, with absolute addresses. */
export async function readSite(base: string): Promise<Site> {
  const response = await fetch(new URL("models.json", base));
  if (!response.ok) throw new Error(`models.json: status ${response.status}`);
  const site = (await response.json()) as Site;
  const absolute = (url: string | undefined) => (url ? new URL(url, base).href : undefined);
  return {
    models: site.models.map((model) => ({
      ...model,
      files: { tflite: absolute(model.files.tflite), tfjs: absolute(model.files.tfjs) },
    })),
    samples: site.samples.map((url) => new URL(url, base).href),
  };
}
