/** Many photos at once: their order, their sums, their file, and a run that can be stopped. */
import assert from "node:assert/strict";
import test from "node:test";
import { Batch } from "../src/app/folder/batch";
import type { Entry } from "../src/app/folder/entries";
import { accuracies, compare, csvOf, placeOf, type Row, truthOf, type Unread } from "../src/app/folder/rows";

const model = { name: "xxs · float32", title: "XXS" };

function row(path: string, probability = 0.5, label = "cat", truth: string | null = null): Row {
  return { path, model, truth, label, probability, milliseconds: 1 };
}

test("the innermost folder that is named after a class counts", () => {
  const names = ["cat", "dog", "caf\u00e9"];
  assert.equal(truthOf("photos/cat/1.jpg", names), "cat");
  assert.equal(truthOf("cat/dog/deeper/1.jpg", names), "dog");
  assert.equal(truthOf("photos/dog", names), null, "a file's own name is no folder");
  assert.equal(truthOf("Cat/1.jpg", names), null);
  assert.equal(truthOf("cafe\u0301/1.jpg", names), "caf\u00e9", "an accent apart from its letter");
});

test("rows are ordered by numbers as numbers, both ways; equals by their names", () => {
  const rows = [row("b10", 0.9), row("b9", 0.1), row("a", 0.9), row("c", 0.05)];
  const sorted = (column: "path" | "probability", descending: boolean) =>
    [...rows].sort((a, b) => compare(a, b, { column, descending })).map(({ path }) => path);
  assert.deepEqual(sorted("path", false), ["a", "b9", "b10", "c"]);
  assert.deepEqual(sorted("path", true), ["c", "b10", "b9", "a"]);
  assert.deepEqual(sorted("probability", false), ["c", "b9", "a", "b10"]);
  assert.deepEqual(sorted("probability", true), ["a", "b10", "b9", "c"]);
});

test("a row that comes later takes the place that sorting would give it", () => {
  for (const descending of [false, true]) {
    const order = { column: "probability", descending } as const;
    const shown: Row[] = [];
    const rows = Array.from({ length: 40 }, (_, i) => row(`${(i * 7) % 40}`, ((i * 13) % 8) / 8));
    for (const one of rows) shown.splice(placeOf(one, shown, order), 0, one);
    assert.deepEqual(shown, [...rows].sort((a, b) => compare(a, b, order)));
  }
});

test("only files in folders of classes count, for each model", () => {
  const other = { name: "s", title: "S" };
  const rows = [
    row("cat/1", 0.5, "cat", "cat"),
    row("dog/1", 0.5, "cat", "dog"),
    row("else/1", 0.5, "cat"),
    { ...row("dog/1", 0.5, "dog", "dog"), model: other },
  ];
  assert.deepEqual(accuracies(rows), [
    { title: "XXS", right: 1, counted: 2 },
    { title: "S", right: 1, counted: 1 },
  ]);
  assert.deepEqual(accuracies([row("else/1")]), []);
});

test("the file quotes what it must, and holds no formula", () => {
  const rows = [
    { ...row('a "b", c.jpg', 0.123456789, "line\nbreak", "Käse"), milliseconds: 12.34567 },
    row("=1+1.jpg", 1, "@cat"),
  ];
  assert.equal(
    csvOf(rows, [{ path: "-2.txt", reason: "no, image" }]),
    "\ufefffile,model,true_class,class,probability,milliseconds,error\r\n" +
      '"a ""b"", c.jpg",xxs · float32,Käse,"line\nbreak",0.123456789,12.346,\r\n' +
      "'=1+1.jpg,xxs · float32,,'@cat,1,1,\r\n" +
      "'-2.txt,,,,,,\"no, image\"\r\n",
  );
});

/** A promise that the test settles. */
class Later<T> {
  resolve!: (value: T) => void;
  reject!: (error: Error) => void;
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 0));
const entries = (...paths: string[]): Entry[] =>
  paths.map((path) => ({ path, file: { name: path } as File }));
const names = ["cat", "dog"];

function made() {
  const log: string[] = [];
  const rows: Row[] = [];
  const unread: Unread[] = [];
  const asked: { model: string; path: string; key: number; last: boolean; answer: Later<string> }[] = [];
  const fake = { open: async (_: string): Promise<readonly string[]> => names };
  const batch = new Batch<Row["model"]>({
    view: {
      begin: (count) => log.push(`begin ${count}`),
      row: (one) => rows.push(one),
      unread: (one) => unread.push(one),
      progress: (done) => log.push(`done ${done}`),
      end: (stopped) => log.push(stopped ? "stopped" : "end"),
      complain: (error) => log.push(`error: ${(error as Error).message}`),
    },
    open: ({ name }) => fake.open(name),
    obstacle: async ({ name }) => (name.endsWith(".txt") ? "no image" : null),
    async ask({ name }, file, key, last) {
      const answer = new Later<string>();
      asked.push({ model: name, path: file.name, key, last, answer });
      return { label: await answer.promise, probability: 1, milliseconds: 1 };
    },
    reason: (error) => (error as Error).message,
    isOfImage: (error) => (error as Error).message === "bad image",
  });
  return { log, rows, unread, asked, fake, batch };
}

const [xxs, s] = [{ name: "xxs", title: "XXS" }, { name: "s", title: "S" }];

test("one image at a time, by each of the models", async () => {
  const { batch, asked, rows, log } = made();
  const run = batch.run(entries("dog/1", "dog/2"), [xxs, s]);
  for (const label of ["dog", "cat", "dog", "dog"]) {
    await settle();
    asked.at(-1)!.answer.resolve(label);
    const pending = asked.length;
    assert.equal(rows.length, pending - 1, "nothing is asked before the answer has come");
  }
  await run;
  assert.deepEqual(
    asked.map(({ model: name, path, key, last }) => [name, path, key, last]),
    [["xxs", "dog/1", -1, false], ["s", "dog/1", -1, true], ["xxs", "dog/2", -2, false], ["s", "dog/2", -2, true]],
  );
  assert.deepEqual(rows.map(({ truth, label }) => [truth, label]), [
    ["dog", "dog"],
    ["dog", "cat"],
    ["dog", "dog"],
    ["dog", "dog"],
  ]);
  assert.deepEqual(log, ["begin 2", "done 1", "done 2", "end"]);
});

test("files that cannot be read are named, the others are classified", async () => {
  const { batch, asked, rows, unread, log } = made();
  const run = batch.run(entries("a.txt", "b", "c", "d"), [xxs]);
  for (const path of ["b", "c"]) {
    await settle();
    assert.equal(asked.at(-1)!.path, path);
    asked.at(-1)!.answer.reject(new Error("bad image"));
  }
  await settle();
  asked.at(-1)!.answer.resolve("cat");
  await run;
  assert.deepEqual(unread.map(({ path, reason }) => `${path}: ${reason}`), [
    "a.txt: no image",
    "b: bad image",
    "c: bad image",
  ]);
  assert.deepEqual(rows.map(({ path }) => path), ["d"]);
  assert.equal(log.at(-1), "end");
});

test("a model that fails twice in a row ends the run and says why", async () => {
  const { batch, asked, log, unread } = made();
  const run = batch.run(entries("a", "b", "c", "d"), [xxs]);
  const outcomes = ["lost", "", "lost", "lost"];
  for (const outcome of outcomes) {
    await settle();
    if (outcome) asked.at(-1)!.answer.reject(new Error(outcome));
    else asked.at(-1)!.answer.resolve("cat");
  }
  await run;
  assert.deepEqual(unread.map(({ path }) => path), ["a", "c", "d"]);
  assert.deepEqual(log.slice(-2), ["stopped", "error: lost"]);
  assert.equal(batch.isRunning, false);
});

test("what is stopped asks for nothing more, and its late answer is dropped", async () => {
  const { batch, asked, rows, log } = made();
  const run = batch.run(entries("a", "b", "c"), [xxs]);
  await settle();
  asked[0]!.answer.resolve("cat");
  await settle();
  batch.stop();
  assert.equal(batch.isRunning, false);
  asked[1]!.answer.resolve("dog");
  await run;
  batch.stop();
  assert.deepEqual(rows.map(({ path }) => path), ["a"]);
  assert.equal(asked.length, 2);
  assert.deepEqual(log, ["begin 3", "done 1", "stopped"]);
});

test("another folder takes the place of the one that runs", async () => {
  const { batch, asked, rows, log } = made();
  const first = batch.run(entries("a", "b"), [xxs]);
  await settle();
  const second = batch.run(entries("c"), [xxs]);
  asked[0]!.answer.resolve("cat");
  await first;
  assert.equal(batch.isRunning, true);
  await settle();
  asked[1]!.answer.resolve("dog");
  await second;
  assert.deepEqual(rows.map(({ path }) => path), ["c"]);
  assert.deepEqual(log, ["begin 2", "begin 1", "done 1", "end"]);
});

test("a model that cannot be loaded says so; the other one goes on", async () => {
  const { batch, asked, log, fake } = made();
  fake.open = async (name) => {
    if (name === "xxs") throw new Error("no network");
    return names;
  };
  const run = batch.run(entries("a"), [xxs, s]);
  await settle();
  assert.deepEqual(asked.map(({ model: name, last }) => [name, last]), [["s", true]]);
  asked[0]!.answer.resolve("cat");
  await run;
  assert.deepEqual(log, ["begin 1", "error: no network", "done 1", "end"]);
  await batch.run(entries("a"), [xxs]);
  assert.deepEqual(log.slice(-3), ["begin 1", "error: no network", "stopped"]);
});
