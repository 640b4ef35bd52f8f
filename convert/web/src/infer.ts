/**
 * The module at a fixed address of the site, for other pages:
 * `import { load } from "https://host/infer.js"`. The runtimes are read from the same site.
 */
import { type AnyModel, load as loadModel, type LoadOptions, type Source } from "./infer/index";

export * from "./infer/index";

declare const __RUNTIMES__: string;

export function load(source: Source, options: LoadOptions = {}): Promise<AnyModel> {
  return loadModel(source, { assets: new URL(/* @vite-ignore */ __RUNTIMES__, import.meta.url).href, ...options });
}
