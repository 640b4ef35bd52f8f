/**
 * The module at a fixed address of the site, for other pages:
 * `import { load } from "https://host/infer.js"`, and the package's. The runtimes lie beside it.
 */
import { type AnyModel, load as loadModel, type LoadOptions, type Source } from "./infer/index";

export * from "./infer/index";

declare const __RUNTIMES__: string;
/** By a name of its own: bundlers take the usual expression for the address of a file of theirs. */
const own = import.meta.url;

export function load(source: Source, options: LoadOptions = {}): Promise<AnyModel> {
  return loadModel(source, { assets: new URL(__RUNTIMES__, own).href, ...options });
}
