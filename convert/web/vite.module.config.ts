/** Builds the module for other people's pages and programs into `lib/`: what `npm pack` holds. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import ts from "typescript";
import { defineConfig, type Plugin } from "vite";
import { runtimes } from "./vite.config";

const root = import.meta.dirname;
const sources = join(root, "src", "infer");
/** Beside the module, wherever that lies. */
const RUNTIMES_FOLDER = "runtimes/";

/** Addresses of files, which Node's resolution of types wants whole: "./tasks" is "./tasks/index.js". */
function withExtensions(declaration: string, folder: string): string {
  return declaration.replace(/(from |import\()"(\.[^"]*)"/g, (_, before: string, path: string) => {
    const isFolder = existsSync(join(folder, path, "index.ts"));
    return `${before}"${path}${isFolder ? "/index" : ""}.js"`;
  });
}

/** Writes the types. */
function declarations(): Plugin {
  return {
    name: "declarations",
    generateBundle() {
      const path = join(sources, "tsconfig.json");
      const { config } = ts.readConfigFile(path, ts.sys.readFile) as { config: unknown };
      const { options, fileNames } = ts.parseJsonConfigFileContent(config, ts.sys, sources);
      const program = ts.createProgram(fileNames, { ...options, emitDeclarationOnly: true });
      const problems = ts.getPreEmitDiagnostics(program);
      if (problems.length > 0) {
        const host = { getCurrentDirectory: () => root, getCanonicalFileName: String, getNewLine: () => "\n" };
        throw new Error(ts.formatDiagnostics(problems, host));
      }
      program.emit(undefined, (file, declaration) => {
        const name = relative(options.outDir!, file);
        const source = withExtensions(declaration, join(sources, dirname(name)));
        this.emitFile({ type: "asset", fileName: `types/${name}`, source });
      });
    },
  };
}

/** TensorFlow.js's part for Node, which is not used, names packages that bundlers then look for. */
function withoutNodePackages(): Plugin {
  return {
    name: "without-node-packages",
    transform(code, id) {
      if (!id.endsWith("/platform_node.js")) return null;
      return { code: code.replaceAll("require(", "globalThis.require("), map: null };
    },
  };
}

/** What is bundled is under the same license; the notices of the rest stand in the code. */
function license(): Plugin {
  return {
    name: "license",
    generateBundle() {
      const source = readFileSync(join(root, "..", "..", "LICENSE"));
      this.emitFile({ type: "asset", fileName: "LICENSE", source });
    },
  };
}

export default defineConfig({
  root,
  base: "./",
  publicDir: false,
  define: { __RUNTIMES__: JSON.stringify(RUNTIMES_FOLDER) },
  plugins: [withoutNodePackages(), declarations(), license(), runtimes(RUNTIMES_FOLDER)],
  build: {
    outDir: "lib",
    target: "es2022",
    // Whoever uses it sees what it does, and bundles it anew.
    minify: false,
    chunkSizeWarningLimit: 4000,
    lib: { entry: join(root, "src", "infer.ts"), formats: ["es"], fileName: "index" },
    rollupOptions: { output: { chunkFileNames: "chunks/[name]-[hash].js" } },
  },
});
