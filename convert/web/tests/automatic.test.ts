/** "Automatic": what is measured, when, and how long it is remembered. */
import assert from "node:assert/strict";
import test from "node:test";
import { Memory } from "../src/app/automatic/kept";
import { type Measurement, Measuring, REST_MS } from "../src/app/automatic/measuring";
import type { RuntimeName } from "../src/infer";

const way = (runtime: RuntimeName) => ({ runtime });
const WASM = way("litert-wasm");
const GPU = way("litert-webgpu");
const OTHER = way("tfjs-wasm");
const OBSTACLE = { way: way("tfjs-webgl"), reason: "in software" };
const IMAGE = new Blob(["image"]);

/** A device of fakes: milliseconds of each way, or what it fails with. */
function device(times: Partial<Record<RuntimeName, number | Error>>) {
  const log: string[] = [];
  const found: (readonly [string, readonly Measurement[], boolean])[] = [];
  const open = new Set<string>();
  const answers: Partial<Record<RuntimeName, string>> = {};
  const fake = { log, found, open, answers, time: 0, hold: undefined as Promise<void> | undefined };
  const ways = (Object.keys(times) as RuntimeName[]).map(way);
  const measuring = new Measuring<string, string>({
    async candidates(model) {
      if (model === "failed") throw new Error("no worker");
      return { ways, others: [OBSTACLE] };
    },
    open(model, { runtime }) {
      const name = `${model} ${runtime}`;
      open.add(name);
      let fail: (error: Error) => void = () => undefined;
      const ended = new Promise<never>((_, reject) => (fail = reject));
      ended.catch(() => undefined);
      return {
        async run(image) {
          assert.equal(image, IMAGE);
          log.push(name);
          await Promise.race([fake.hold, ended]);
          const milliseconds = times[runtime]!;
          if (milliseconds instanceof Error) throw milliseconds;
          fake.time += milliseconds;
          return { answer: answers[runtime] ?? "cat", milliseconds, way: way(runtime) };
        },
        end() {
          open.delete(name);
          fail(new Error("ended"));
        },
      };
    },
    isSame: (first, other) => first === other,
    reason: (error) => (error ? (error as Error).message : "another answer"),
    isPassing: (error) => (error as Error).message === "no network",
    found: async (model, measurements, lasts) => void found.push([model, measurements, lasts]),
    now: () => fake.time,
  });
  return { ...fake, fake, measuring };
}

const settle = async () => {
  for (let turn = 0; turn < 200; turn++) await Promise.resolve();
};

test("the fastest comes first, what fails or differs has a reason and no time", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const made = device({ "litert-wasm": 30, "litert-webgpu": 5, "tfjs-wasm": 20, "tfjs-webgpu": new Error("broken") });
  made.answers["litert-webgpu"] = "dog";
  made.measuring.add("m", IMAGE);
  made.measuring.rest(true);
  await settle();
  assert.deepEqual(made.log, [], "not before the page has rested");
  context.mock.timers.tick(REST_MS);
  await settle();
  const measured = [
    { way: OTHER, milliseconds: 20 },
    { way: WASM, milliseconds: 30 },
    { way: GPU, reason: "another answer" },
    { way: way("tfjs-webgpu"), reason: "broken" },
    OBSTACLE,
  ];
  assert.deepEqual(made.found, [["m", measured, true]]);
  assert.equal(made.log.filter((name) => name === "m litert-wasm").length, 6, "one to warm up");
  assert.equal(made.open.size, 0, "no worker is left");
  assert.equal(made.measuring.awaits("m"), false);
});

test("what takes long runs less often", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const made = device({ "litert-wasm": 30, "tfjs-wasm": 2000 });
  made.measuring.rest(true);
  made.measuring.add("m", IMAGE);
  context.mock.timers.tick(REST_MS);
  await settle();
  assert.equal(made.log.filter((name) => name === "m tfjs-wasm").length, 3);
});

test("the page goes on: the worker ends at once, and only its part is measured again", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const made = device({ "litert-wasm": 30, "tfjs-wasm": 20 });
  made.measuring.rest(true);
  made.measuring.add("m", IMAGE);
  const wasm = async () => {
    context.mock.timers.tick(REST_MS);
    await settle();
  };
  let go = () => undefined as void;
  made.fake.hold = new Promise((resolve) => (go = resolve));
  await wasm();
  assert.deepEqual([...made.open], ["m litert-wasm"]);
  made.measuring.rest(false);
  await settle();
  assert.equal(made.open.size, 0);
  context.mock.timers.tick(10 * REST_MS);
  await settle();
  assert.equal(made.log.length, 1, "nothing while it computes");
  go();
  made.fake.hold = undefined;
  made.measuring.rest(true);
  await wasm();
  assert.deepEqual(made.found.map(([, measured]) => measured.map((one) => one.milliseconds)), [[20, 30, undefined]]);
});

test("a way that never ends is left out", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const made = device({ "litert-wasm": 30, "tfjs-wasm": 20 });
  made.measuring.rest(true);
  made.measuring.add("m", IMAGE);
  made.fake.hold = new Promise(() => undefined);
  for (const wait of [REST_MS, 30_000, 30_000]) {
    context.mock.timers.tick(wait);
    await settle();
  }
  assert.deepEqual(made.found[0]![1].map(({ reason }) => reason), ["ended", "ended", "in software"]);
});

test("without a connection it is said but not remembered", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const made = device({ "litert-wasm": 30, "tfjs-wasm": new Error("no network") });
  made.measuring.rest(true);
  made.measuring.add("m", IMAGE);
  context.mock.timers.tick(REST_MS);
  await settle();
  assert.equal(made.found[0]![2], false);
});

test("with one way nothing is run, and a model that was deselected is not measured", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const made = device({ "litert-wasm": 30 });
  made.measuring.rest(true);
  made.measuring.add("m", IMAGE);
  made.measuring.add("n", IMAGE);
  made.measuring.keepOnly(["n"]);
  context.mock.timers.tick(REST_MS);
  await settle();
  assert.deepEqual(made.log, []);
  assert.deepEqual(made.found, [["n", [], false]]);
});

test("a model that has failed meanwhile is not said to be measured", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const made = device({ "litert-wasm": 30, "tfjs-wasm": 20 });
  made.measuring.rest(true);
  made.measuring.add("failed", IMAGE);
  made.measuring.add("m", IMAGE);
  context.mock.timers.tick(REST_MS);
  await settle();
  assert.deepEqual(made.found.map(([model]) => model), ["m"]);
  assert.equal(made.measuring.awaits("failed"), false);
});

/** As a browser's, for as long as a test lasts. */
function storage() {
  const held = new Map<string, string>();
  const fake = { getItem: (name: string) => held.get(name) ?? null, setItem: (name: string, value: string) => void held.set(name, value) };
  return fake as unknown as Storage;
}

test("it is remembered until the page's version changes, and can be forgotten", () => {
  const device = storage();
  const measured = [{ way: WASM, milliseconds: 30 }];
  const memory = new Memory(device, "site", "1");
  memory.set("file", measured, true);
  memory.set("passing", measured, false);
  assert.deepEqual(memory.get("passing"), measured);
  const next = new Memory(device, "site", "1");
  assert.deepEqual(next.get("file"), measured);
  assert.equal(next.get("passing"), undefined);
  assert.equal(next.get("another file"), undefined);
  assert.equal(new Memory(device, "another site", "1").get("file"), undefined);
  assert.equal(new Memory(device, "site", "2").get("file"), undefined);
  next.forget("file");
  assert.equal(new Memory(device, "site", "1").get("file"), undefined);
});

test("two tabs keep each other's measurements, and a browser without storage does as well", () => {
  const device = storage();
  const [some, others] = [new Memory(device, "site", "1"), new Memory(device, "site", "1")];
  some.set("a", [], true);
  others.set("b", [], true);
  const read = new Memory(device, "site", "1");
  assert.ok(read.get("a") && read.get("b"));
  const full = { getItem: () => "no JSON", setItem: () => assert.fail("full") } as unknown as Storage;
  for (const poor of [null, full]) {
    const memory = new Memory(poor, "site", "1");
    memory.set("a", [], true);
    assert.deepEqual(memory.get("a"), []);
  }
});
