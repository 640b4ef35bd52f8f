import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";
import { text } from "./src/app/text";

const require = createRequire(import.meta.url);
const root = import.meta.dirname;

function packageFolder(name: string): string {
  return join(root, "node_modules", name);
}

function version(name: string): string {
  return (require(join(packageFolder(name), "package.json")) as { version: string }).version;
}

/** The runtimes' folder carries their versions, so that its files may be cached for ever. */
const RUNTIMES_FOLDER =
  `runtimes/litert-${version("@litertjs/core")}-tfjs-${version("@tensorflow/tfjs-core")}/`;

const LITERT_BUILDS = ["litert_wasm_internal", "litert_wasm_compat_internal", "litert_wasm_threaded_internal"];
const TFJS_BUILDS = ["tfjs-backend-wasm", "tfjs-backend-wasm-simd", "tfjs-backend-wasm-threaded-simd"];

/** What stands before a loader, so that it also runs in Node, which has no `require` for modules. */
const NODE = `const require = globalThis.process?.versions?.node
  ? (await import("node:module")).createRequire(import.meta.url)
  : undefined;
const __dirname = ".";
`;

/** Copies the runtimes' binaries, which are fetched only when their runtime is chosen. */
export function runtimes(folder: string): Plugin {
  return {
    name: "runtimes",
    generateBundle() {
      const emit = (fileName: string, source: string | Uint8Array) =>
        this.emitFile({ type: "asset", fileName: folder + fileName, source });
      const litert = join(packageFolder("@litertjs/core"), "wasm");
      for (const build of LITERT_BUILDS) {
        const script = readFileSync(join(litert, `${build}.js`), "utf8");
        // A module worker imports the loader; the threads it starts want the classic script.
        emit(`litert/${build}.mjs`, `${NODE}${script}\nexport default ModuleFactory;\n`);
        if (build.includes("threaded")) emit(`litert/${build}.js`, script);
        emit(`litert/${build}.wasm`, readFileSync(join(litert, `${build}.wasm`)));
      }
      const tfjs = join(packageFolder("@tensorflow/tfjs-backend-wasm"), "dist");
      for (const build of TFJS_BUILDS) {
        emit(`tfjs/${build}.wasm`, readFileSync(join(tfjs, `${build}.wasm`)));
      }
    },
  };
}

/** Puts `src/app/text.ts` into the pages: `{{name}}` becomes its escaped text. */
function texts(): Plugin {
  const values = text as unknown as Record<string, unknown>;
  const escape = (value: string) =>
    value.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
  return {
    name: "texts",
    transformIndexHtml: (html) =>
      html.replace(/\{\{(\w+)\}\}/g, (_, name: string) => {
        const value = values[name];
        if (typeof value !== "string") throw new Error(`text.ts has no text named ${name}.`);
        return escape(value);
      }),
  };
}

/**
 * Puts the policy that the local server sends into the pages, for hosts that send none. Not while
 * developing, where Vite's own scripts stand in the page.
 */
function contentSecurityPolicy(): Plugin {
  const lines = readFileSync(join(root, "content_security_policy.txt"), "utf8").trim().split("\n");
  return {
    name: "content-security-policy",
    apply: "build",
    transformIndexHtml: (html) => ({
      html,
      tags: [
        {
          tag: "meta",
          attrs: { "http-equiv": "Content-Security-Policy", content: lines.join("; ") },
          injectTo: "head-prepend",
        },
      ],
    }),
  };
}

/** Writes what a browser needs to install the application. */
function manifest(): Plugin {
  const icon = (src: string, sizes: string, type: string, purpose = "any") => ({
    src: `icons/${src}`,
    sizes,
    type,
    purpose,
  });
  const source = {
    name: text.title,
    short_name: text.shortTitle,
    description: text.description,
    lang: "en",
    start_url: "./",
    scope: "./",
    display: "standalone",
    background_color: "#f6f7fb",
    theme_color: "#4338ca",
    icons: [
      icon("icon.svg", "any", "image/svg+xml"),
      icon("icon-192.png", "192x192", "image/png"),
      icon("icon-512.png", "512x512", "image/png"),
      icon("maskable-512.png", "512x512", "image/png", "maskable"),
    ],
  };
  return {
    name: "manifest",
    generateBundle() {
      this.emitFile({
        type: "asset",
        fileName: "manifest.webmanifest",
        source: JSON.stringify(source, null, 2),
      });
    },
  };
}

/** Gives the service worker the list of the page's own files and a name for their set. */
function precache(): Plugin {
  return {
    name: "precache",
    enforce: "post",
    generateBundle(_, bundle) {
      const worker = bundle["service_worker.js"];
      if (worker?.type !== "chunk") return;
      // The first runtime's small part, too: a version that was never opened works offline as well.
      const always = /(worker|runtime-litert)-[^/]*\.js$|\.css$/;
      const used = new Set(Object.keys(bundle).filter((name) => always.test(name)));
      const add = (name: string) => {
        const file = bundle[name];
        if (used.has(name) || file?.type !== "chunk") return;
        used.add(name);
        file.imports.forEach(add);
      };
      for (const file of Object.values(bundle)) {
        if (file.type === "chunk" && file.facadeModuleId?.endsWith(".html")) add(file.fileName);
      }
      used.delete(worker.fileName);
      const names = [...used].sort();
      const hash = createHash("sha256");
      for (const [name, file] of Object.entries(bundle).sort(([a], [b]) => (a < b ? -1 : 1))) {
        hash.update(name).update(file.type === "chunk" ? file.code : file.source);
      }
      worker.code = worker.code
        .replace('"__FILES__"', JSON.stringify(names))
        .replace("__VERSION__", hash.digest("hex").slice(0, 12));
    },
  };
}

const FIXED_NAMES = ["service_worker", "infer"];

export default defineConfig({
  root,
  base: "./",
  define: { __RUNTIMES__: JSON.stringify(RUNTIMES_FOLDER) },
  plugins: [texts(), contentSecurityPolicy(), manifest(), runtimes(RUNTIMES_FOLDER), precache()],
  worker: {
    format: "es",
    // Their names keep the runtimes' code out of what is kept for offline use before it is needed.
    rollupOptions: {
      output: {
        chunkFileNames: ({ moduleIds }) =>
          `assets/runtime-${moduleIds.some((id) => id.includes("@litertjs")) ? "litert" : "[name]"}-[hash].js`,
      },
    },
  },
  build: {
    target: "es2022",
    modulePreload: false,
    chunkSizeWarningLimit: 1200,
    rollupOptions: {
      input: {
        index: resolve(root, "index.html"),
        benchmark: resolve(root, "benchmark/index.html"),
        infer: resolve(root, "src/infer.ts"),
        service_worker: resolve(root, "src/service_worker.ts"),
      },
      preserveEntrySignatures: "strict",
      output: {
        entryFileNames: ({ name }) =>
          FIXED_NAMES.includes(name) ? "[name].js" : "assets/[name]-[hash].js",
      },
    },
  },
});
