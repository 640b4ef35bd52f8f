/** What is shown of a video's frames. */
import assert from "node:assert/strict";
import test from "node:test";
import { ClassificationView } from "../src/app/views/classification";

const named = (index: number, probability: number) => ({ index, label: `${index}`, probability });

test("a class that flickers does not take the first place at once", () => {
  const view = new ClassificationView();
  let shown = [named(0, 0.9), named(1, 0.1)];
  shown = view.blend(shown, [named(1, 0.9), named(0, 0.1)]);
  assert.deepEqual(shown.map(({ index }) => index), [0, 1]);
  for (let frame = 0; frame < 3; frame++) shown = view.blend(shown, [named(1, 0.9), named(2, 0.1)]);
  assert.deepEqual(shown.map(({ index }) => index), [1, 0, 2]);
  const total = shown.reduce((sum, { probability }) => sum + probability, 0);
  assert.ok(Math.abs(total - 1) < 1e-9, "shares stay shares");
});

test("what has gone is forgotten, and no more than five are shown", () => {
  const view = new ClassificationView();
  let shown = [named(9, 1)];
  const five = [0, 1, 2, 3, 4].map((index) => named(index, 0.2));
  for (let frame = 0; frame < 20; frame++) shown = view.blend(shown, five);
  assert.deepEqual(shown.map(({ index }) => index), [0, 1, 2, 3, 4]);
});
