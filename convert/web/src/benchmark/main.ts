/** The benchmark page: every model on every runtime, as a table and as JSON. */
import { byId, make } from "../app/dom";
import { Engine, EngineError } from "../app/engine";
import type { ModelSpec } from "../app/protocol";
import { failureText, runtimeText } from "../app/results";
import { readSite, type Site, type SiteModel } from "../app/site";
import { text } from "../app/text";
import { formatOf, RUNTIMES, type RuntimeName } from "../infer";

/** One model on one runtime; the times are milliseconds, the memory bytes. */
interface Result {
  model: string;
  id: string;
  runtime: RuntimeName;
  threads?: number;
  runs?: number;
  median?: number;
  minimum?: number;
  first_run?: number;
  load?: number;
  memory?: number;
  /** Why there are no times. */
  reason?: string;
}

const startButton = byId<HTMLButtonElement>("start");
const stopButton = byId<HTMLButtonElement>("stop");
const copyButton = byId<HTMLButtonElement>("copy");
const json = byId<HTMLTextAreaElement>("json");

const engine = new Engine();
let site: Site = { models: [], samples: [] };
let results: Result[] = [];
let stopped = false;

function number(id: string): number {
  const input = byId<HTMLInputElement>(id);
  const value = Math.round(input.valueAsNumber || 1);
  return Math.min(Math.max(value, Number(input.min)), Number(input.max));
}

function say(id: "error" | "progress", sentence: string): void {
  byId(id).textContent = sentence;
  byId(id).hidden = sentence === "";
}

function explain(error: unknown): string {
  if (error instanceof EngineError) return failureText(error.failure);
  return text.errors.unexpected(error instanceof Error ? error.message : String(error));
}

function median(sorted: number[]): number {
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)]!;
  return Number.isInteger(middle) ? (sorted[middle - 1]! + upper) / 2 : upper;
}

function showRow(result: Result): void {
  const { model } = result;
  const row = make("tr", {}, make("td", {}, model), make("td", {}, runtimeText(result)));
  if (result.reason) {
    row.append(make("td", { class: "reason", colspan: "5" }, result.reason));
  } else {
    const times = [result.median, result.minimum, result.first_run, result.load];
    for (const time of times) row.append(make("td", { class: "number" }, text.milliseconds(time!)));
    row.append(make("td", { class: "number" }, text.bytes(result.memory!)));
  }
  byId("rows").append(row);
}

function record(result: Result): void {
  results.push(result);
  showRow(result);
  const summary = {
    date: new Date().toISOString(),
    browser: navigator.userAgent,
    cores: navigator.hardwareConcurrency,
    cross_origin_isolated: crossOriginIsolated,
    results,
  };
  const rounded = (_: string, value: unknown) =>
    typeof value === "number" ? Math.round(value * 1e3) / 1e3 : value;
  json.value = JSON.stringify(summary, rounded, 1);
  copyButton.disabled = false;
}

/** Each measurement has a worker of its own: no runtime's memory or threads disturb the next. */
async function measure(model: SiteModel, runtime: RuntimeName): Promise<Result> {
  engine.stop();
  const format = formatOf(runtime);
  const url = model.files[format]!;
  const spec: ModelSpec = {
    id: model.id,
    source: { [format]: url },
    runtime,
    threads: number("threads"),
  };
  const state = await engine.request("prepare", { spec });
  const times: number[] = [];
  for (let run = 0; run < number("runs") && !stopped; run++) {
    times.push(await engine.request("time", { spec }));
  }
  if (times.length === 0) return { model: model.name, id: model.id, runtime, reason: text.benchmarkStopped };
  times.sort((a, b) => a - b);
  const { memory } = await engine.request("prepare", { spec });
  return {
    model: model.name,
    id: model.id,
    runtime,
    threads: state.threads,
    runs: times.length,
    median: median(times),
    minimum: times[0]!,
    first_run: state.timings.firstRun,
    load: state.timings.load,
    memory,
  };
}

async function run(): Promise<void> {
  stopped = false;
  results = [];
  byId("rows").replaceChildren();
  say("error", "");
  startButton.disabled = true;
  stopButton.disabled = false;
  try {
    const found = await engine.request("obstacles", {});
    const obstacles = new Map(found.map(({ runtime, reason }) => [runtime, reason]));
    for (const model of site.models) {
      for (const runtime of RUNTIMES) {
        if (stopped || !model.files[formatOf(runtime)]) continue;
        const reason = obstacles.get(runtime);
        const result = { model: model.name, id: model.id, runtime };
        say("progress", text.benchmarkProgress(model.name, text.runtimes[runtime]));
        if (reason) record({ ...result, reason });
        else record(await measure(model, runtime).catch((error) => ({ ...result, reason: explain(error) })));
      }
    }
    say("progress", stopped ? text.benchmarkStopped : text.benchmarkDone);
  } catch (error) {
    say("error", explain(error));
  } finally {
    engine.stop();
    startButton.disabled = false;
    stopButton.disabled = true;
  }
}

async function copy(): Promise<void> {
  try {
    await navigator.clipboard.writeText(json.value);
  } catch {
    json.select();
    document.execCommand("copy");
  }
  say("progress", text.benchmarkCopied);
}

async function start(): Promise<void> {
  if (crossOriginIsolated) {
    byId<HTMLInputElement>("threads").valueAsNumber = Math.min(4, navigator.hardwareConcurrency || 1);
  }
  startButton.addEventListener("click", () => void run());
  stopButton.addEventListener("click", () => {
    stopped = true;
  });
  copyButton.addEventListener("click", () => void copy());
  try {
    site = await readSite(new URL("..", document.baseURI).href);
    startButton.disabled = site.models.length === 0;
    if (site.models.length === 0) say("error", text.errors.no_models);
  } catch (error) {
    say("error", explain(error));
  }
}

void start();
