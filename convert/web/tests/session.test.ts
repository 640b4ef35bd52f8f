/** The state machine under a fast hand: nothing late is shown, nothing is left on. */
import assert from "node:assert/strict";
import test from "node:test";
import type { OpenCamera } from "../src/app/camera";
import { type Picture, Session, type State } from "../src/app/session";

/** A promise that the test settles. */
class Later<T> {
  resolve!: (value: T) => void;
  reject!: (error: Error) => void;
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}

interface Frame {
  name: string;
  closed: boolean;
  close(): void;
}

function frame(name: string): Frame {
  return { name, closed: false, close() { this.closed = true; } };
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 0));

/** A page of fakes, which remembers what was shown and what is open. */
function page({ models = ["m"] } = {}) {
  const log: string[] = [];
  const states: State[] = [];
  const cameras: { camera: OpenCamera; on: boolean; end: () => void }[] = [];
  const frames: Frame[] = [];
  const pictures: Frame[] = [];
  const asked: { model: string; image: Frame; last: boolean; answer: Later<string> }[] = [];
  const permission: Later<void>[] = [];
  const served: string[] = [];
  const fake = {
    log, states, cameras, served, frames, pictures, asked, permission, models,
    automatic: true,
    released: [] as string[][],
    time: 0,
    prepared: [] as string[],
    prepare: async (_: string): Promise<void> => undefined,
  };
  const session = new Session<string, string>({
    view: {
      changed: (state) => states.push(state),
      showPicture: (picture) => log.push(`show ${(picture.image as unknown as Frame).name}`),
      begin: (chosen) => log.push(`begin ${chosen.join(",")}`),
      answer(model, answer, image) {
        assert.equal((image as unknown as Frame).closed, false, "it may be drawn");
        log.push(`${model}: ${answer}`);
      },
      failed: (model, error) => log.push(`${model} failed: ${(error as Error).message}`),
      done: (answers) => log.push(`done ${answers.length}`),
      loading: () => undefined,
      rate: () => undefined,
      complain: (error) => log.push(`error: ${(error as Error).message}`),
    },
    camera: {
      async request(facing, end) {
        const wait = new Later<void>();
        permission.push(wait);
        if (fake.automatic) wait.resolve();
        await wait.promise;
        const made = { on: true, end, camera: { facing, stream: {} as MediaStream, serve: async (mode: string) => void served.push(mode), stop: () => { made.on = false; } } };
        cameras.push(made);
        return made.camera;
      },
      show: async () => undefined,
      async frame() {
        frames.push(frame(`frame ${frames.length}`));
        return frames.at(-1) as unknown as ImageBitmap;
      },
    },
    models: () => fake.models,
    async read(blob) {
      const image = blob as unknown as Frame;
      if (image.name === "bad") throw new Error("no image");
      pictures.push(image);
      return { image: blob, close: () => image.close() } as Picture;
    },
    ask(model, image, _, last) {
      const source = image as unknown as Frame;
      assert.equal(source.closed, false, "a closed image is never used");
      const answer = new Later<string>();
      asked.push({ model, image: source, last, answer });
      return answer.promise;
    },
    async prepare(model) {
      fake.prepared.push(model);
      await fake.prepare(model);
    },
    retain: async (kept) => void fake.released.push([...kept]),
    cameraEnded: () => new Error("ended"),
    now: () => (fake.time += 10),
  });
  const choose = (name: string) => {
    const image = frame(name);
    void session.choose(async () => image as unknown as Blob, () => undefined);
    return image;
  };
  const lit = () => cameras.filter(({ on }) => on).length;
  return { ...fake, fake, session, choose, lit };
}

test("an image is predicted as soon as it is chosen", async () => {
  const { choose, asked, log, session } = page();
  choose("a");
  await settle();
  assert.deepEqual(session.state, { name: "image", predicting: true });
  asked[0]!.answer.resolve("cat");
  await settle();
  assert.deepEqual(log, ["begin ", "show a", "begin m", "m: cat", "done 1"]);
  assert.deepEqual(session.state, { name: "image", predicting: false });
});

test("another image while one is predicted: its answer never comes up", async () => {
  const { choose, asked, log, session } = page();
  const first = choose("a");
  await settle();
  choose("b");
  await settle();
  assert.ok(first.closed);
  asked[0]!.answer.resolve("cat");
  await settle();
  asked[1]!.answer.resolve("dog");
  await settle();
  assert.ok(!log.includes("m: cat"));
  assert.deepEqual(log.slice(-2), ["m: dog", "done 1"]);
  assert.deepEqual(session.state, { name: "image", predicting: false });
});

test("images passed over are not computed", async () => {
  const { choose, asked } = page();
  for (const name of "abcdefgh") {
    choose(name);
    await settle();
  }
  asked[0]!.answer.resolve("late");
  await settle();
  assert.deepEqual(asked.map(({ image }) => image.name), ["a", "h"]);
});

test("two files at once: the one chosen last is shown, the other freed", async () => {
  const { session, log, pictures } = page();
  const slow = new Later<Blob>();
  const [a, b] = [frame("a"), frame("b")];
  void session.choose(() => slow.promise, () => log.push("mark a"));
  void session.choose(async () => b as unknown as Blob, () => log.push("mark b"));
  await settle();
  slow.resolve(a as unknown as Blob);
  await settle();
  assert.ok(log.includes("mark b") && !log.includes("mark a"));
  assert.equal(pictures.length, 2);
  assert.ok(a.closed && !b.closed);
});

test("a file that is no image changes nothing", async () => {
  const { choose, asked, log, session } = page();
  choose("a");
  await settle();
  choose("bad");
  await settle();
  asked[0]!.answer.resolve("cat");
  await settle();
  assert.ok(log.includes("error: no image"));
  assert.deepEqual(log.slice(-2), ["m: cat", "done 1"]);
  assert.deepEqual(session.state, { name: "image", predicting: false });
});

test("a model that fails leaves the others' answers", async () => {
  const { choose, asked, log } = page({ models: ["m", "n"] });
  choose("a");
  await settle();
  assert.equal(asked[0]!.last, false);
  asked[0]!.answer.reject(new Error("lost"));
  await settle();
  assert.equal(asked[1]!.last, true);
  asked[1]!.answer.resolve("dog");
  await settle();
  assert.deepEqual(log.slice(-3), ["m failed: lost", "n: dog", "done 1"]);
});

test("a double click opens one camera, and closing leaves none on", async () => {
  const made = page();
  made.fake.automatic = false;
  void made.session.open("camera");
  void made.session.open("camera");
  assert.equal(made.permission.length, 1);
  made.permission[0]!.resolve();
  await settle();
  assert.equal(made.lit(), 1);
  void made.session.close();
  assert.equal(made.lit(), 0);
  assert.deepEqual(made.session.state, { name: "empty" });
});

test("a camera that opens after Close is turned off", async () => {
  const made = page();
  made.fake.automatic = false;
  void made.session.open("live");
  void made.session.close();
  void made.session.open("camera");
  made.permission[0]!.resolve();
  made.permission[1]!.resolve();
  await settle();
  assert.equal(made.cameras.length, 2);
  assert.equal(made.lit(), 1);
  assert.deepEqual(made.session.state, { name: "camera" });
  assert.equal(made.asked.length, 0, "no live loop began");
});

test("an image chosen while the camera is asked for wins", async () => {
  const made = page();
  made.fake.automatic = false;
  void made.session.open("camera");
  made.choose("a");
  await settle();
  made.permission[0]!.resolve();
  await settle();
  assert.equal(made.lit(), 0);
  assert.equal(made.session.state.name, "image");
});

test("rapid switches between camera and live leave one loop", async () => {
  const made = page();
  for (const mode of ["live", "camera", "live", "camera", "live"] as const) {
    void made.session.open(mode);
    await settle();
  }
  assert.equal(made.lit(), 1);
  assert.deepEqual(made.served, ["live", "camera", "live", "camera", "live"]);
  for (let round = 0; round < 5; round++) {
    for (const { answer } of made.asked) answer.resolve("cat");
    await settle();
  }
  const open = made.frames.filter(({ closed }) => !closed).length;
  assert.equal(open, 1, "one loop holds one frame");
  void made.session.close();
  for (const { answer } of made.asked) answer.resolve("cat");
  await settle();
  assert.ok(made.frames.every(({ closed }) => closed));
  assert.equal(made.lit(), 0);
});

test("a live loop ends when its models fail, without asking for ever", async () => {
  const made = page();
  void made.session.open("live");
  await settle();
  made.asked[0]!.answer.reject(new Error("lost"));
  await settle();
  assert.equal(made.asked.length, 1);
  assert.equal(made.lit(), 0);
  assert.deepEqual(made.session.state, { name: "empty" });
});

test("live video goes on while no model is selected", async () => {
  const made = page();
  void made.session.open("live");
  await settle();
  made.fake.models = [];
  void made.session.configure();
  made.asked[0]!.answer.resolve("late");
  await settle();
  assert.deepEqual(made.session.state, { name: "live" });
  assert.equal(made.lit(), 1);
  assert.equal(made.asked.length, 1, "nobody is asked");
  made.fake.models = ["n"];
  void made.session.configure();
  await settle();
  assert.equal(made.asked[1]!.model, "n");
  void made.session.close();
  await settle();
  assert.equal(made.lit(), 0);
});

test("a capture turns the camera off and is predicted", async () => {
  const made = page();
  void made.session.open("camera");
  await settle();
  void made.session.capture();
  void made.session.capture();
  await settle();
  assert.equal(made.lit(), 0);
  assert.deepEqual(made.asked.map(({ image }) => image.name), ["frame 0"]);
  assert.deepEqual(made.frames.map(({ closed }) => closed), [false, true]);
});

test("a camera that ends by itself says so", async () => {
  const made = page();
  void made.session.open("live");
  await settle();
  made.cameras[0]!.end();
  await settle();
  assert.ok(made.log.includes("error: ended"));
  assert.deepEqual(made.session.state, { name: "empty" });
});

test("a hidden page has no camera on, and gets it back", async () => {
  const made = page();
  void made.session.open("live");
  await settle();
  await made.session.hide(true);
  assert.equal(made.lit(), 0);
  assert.deepEqual(made.session.state, { name: "paused", mode: "live" });
  for (const { answer } of made.asked) answer.resolve("late");
  await settle();
  assert.ok(!made.log.includes("m: late"));
  void made.session.hide(false);
  await settle();
  assert.equal(made.lit(), 1);
  assert.deepEqual(made.session.state, { name: "live" });
});

test("after live video the image stands beside its own answer", async () => {
  const made = page();
  made.choose("a");
  await settle();
  made.asked[0]!.answer.resolve("cat");
  await settle();
  void made.session.open("live");
  await settle();
  made.asked[1]!.answer.resolve("dog");
  await settle();
  void made.session.close();
  assert.deepEqual(made.log.slice(-3), ["begin ", "show a", "begin m"], "nothing of the video is left");
  made.asked[2]!.answer.resolve("late");
  await settle();
  made.asked[3]!.answer.resolve("cat");
  await settle();
  assert.deepEqual(made.log.slice(-3), ["begin m", "m: cat", "done 1"]);
  assert.deepEqual(made.session.state, { name: "image", predicting: false });
});

test("the camera that is refused leaves the image", async () => {
  const made = page();
  made.choose("a");
  await settle();
  made.asked[0]!.answer.resolve("cat");
  await settle();
  made.fake.automatic = false;
  void made.session.open("camera");
  made.permission[0]!.reject(new Error("denied"));
  await settle();
  assert.ok(made.log.includes("error: denied"));
  assert.deepEqual(made.session.state, { name: "image", predicting: false });
});

test("other models: the old ones are freed, the image is predicted with the new", async () => {
  const made = page();
  made.choose("a");
  await settle();
  made.asked[0]!.answer.resolve("cat");
  await settle();
  made.fake.models = ["n"];
  void made.session.configure();
  await settle();
  assert.deepEqual(made.fake.released, [["n"]]);
  made.asked[1]!.answer.resolve("dog");
  await settle();
  assert.deepEqual(made.log.slice(-3), ["begin n", "n: dog", "done 1"]);
});

test("models are loaded while there is no image; a selection replaces the one before", async () => {
  const made = page({ models: ["m", "n"] });
  const slow = new Later<void>();
  made.fake.prepare = () => slow.promise;
  void made.session.configure();
  made.fake.models = ["o"];
  void made.session.configure();
  slow.reject(new Error("no network"));
  await settle();
  assert.deepEqual(made.fake.prepared, ["m", "o"]);
  assert.deepEqual(made.log, ["o failed: no network"]);
});
