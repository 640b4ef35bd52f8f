/** What is shown of a video's frames, and when a heat map is. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Box, Detection, HeatMap, Prediction } from "../src/infer";
import type { Overlay } from "../src/app/stage/overlay";
import { ClassificationView } from "../src/app/views/classification";
import { DetectionView } from "../src/app/views/detection";

const named = (index: number, probability: number) => ({ index, label: `${index}`, probability });
const found = (predictions: Prediction[], heatMap?: HeatMap) => ({
  predictions,
  shown: [4, 4] as const,
  ...(heatMap && { heatMap }),
});
const indices = ({ predictions }: { predictions: Prediction[] }) => predictions.map(({ index }) => index);
const view = () => new ClassificationView(() => undefined);

/** One class on the left, the other on the right. */
const HEAT_MAP: HeatMap = {
  cells: [1, 2],
  count: 2,
  scores: Float32Array.of(1, 0, 0, 1),
  window: [0, 0, 4, 4],
  image: [4, 4],
};

test("a class that flickers does not take the first place at once", () => {
  const views = view();
  let shown = found([named(0, 0.9), named(1, 0.1)]);
  const next = (predictions: Prediction[]) => (shown = views.blend(shown, found(predictions)) as typeof shown);
  next([named(1, 0.9), named(0, 0.1)]);
  assert.deepEqual(indices(shown), [0, 1]);
  for (let frame = 0; frame < 3; frame++) next([named(1, 0.9), named(2, 0.1)]);
  assert.deepEqual(indices(shown), [1, 0, 2]);
  const total = shown.predictions.reduce((sum, { probability }) => sum + probability, 0);
  assert.ok(Math.abs(total - 1) < 1e-9, "shares stay shares");
});

test("what has gone is forgotten, and no more than five are shown", () => {
  const views = view();
  let shown = found([named(9, 1)]);
  const five = [0, 1, 2, 3, 4].map((index) => named(index, 0.2));
  for (let frame = 0; frame < 20; frame++) shown = views.blend(shown, found(five)) as typeof shown;
  assert.deepEqual(indices(shown), [0, 1, 2, 3, 4]);
});

test("of a video the heat map is that of the frame that it is drawn into", () => {
  const latest = { ...HEAT_MAP, scores: Float32Array.of(0, 1, 1, 0) };
  const shown = view().blend(found([named(0, 1)], HEAT_MAP), found([named(0, 1)], latest));
  assert.equal(shown.heatMap, latest);
  assert.equal(view().blend(found([named(0, 1)], HEAT_MAP), found([named(0, 1)])).heatMap, undefined);
});

test("a heat map is drawn where there is one and somebody wants it", () => {
  const views = view();
  const drawn: number[][] = [];
  let cleared = 0;
  const overlay = {
    clear: () => cleared++,
    showMask: ({ mask }: { mask: Uint8Array }, _: Uint8Array, opacity: number) => {
      assert.equal(opacity, 0.7);
      drawn.push([...mask.subarray(0, 4)]);
    },
  } as unknown as Overlay;
  const answer = found([named(0, 0.9), named(1, 0.1)], HEAT_MAP);
  assert.equal(views.isSettable(answer), true);
  assert.equal(views.isSettable(found([named(0, 1)])), false);
  assert.equal(views.isDrawn(answer), false, "off by default");
  views.draw(overlay, answer);
  assert.equal(cleared, 1);
  views.control.isOn = true;
  assert.equal(views.isDrawn(found([named(0, 1)])), false, "of a file without there is nothing");
  views.draw(overlay, answer);
  // All of it on the left, and between the cells' middles a quarter and three of it.
  assert.deepEqual(drawn, [[255, 192, 65, 1]]);
});

test("a score that flickers about the threshold stays on its side; boxes are the latest frame's", () => {
  const views = new DetectionView(() => undefined);
  const seen = (...objects: [string, number, Box][]): Detection => ({
    width: 100,
    height: 100,
    objects: objects.map(([label, score, box]) => ({ index: 0, label, score, box })),
  });
  const [here, moved, elsewhere]: Box[] = [[10, 10, 50, 50], [12, 10, 52, 50], [60, 60, 90, 90]];
  let shown = seen(["cat", 0.4, here!]);
  for (const score of [0.25, 0.4, 0.25]) shown = views.blend(shown, seen(["cat", score, moved!]));
  assert.ok(shown.objects[0]!.score > 0.3);
  assert.deepEqual(shown.objects[0]!.box, moved);
  const next = views.blend(shown, seen(["dog", 0.9, moved!], ["cat", 0.8, elsewhere!]));
  assert.deepEqual(next.objects.map(({ label, score }) => [label, score]), [["dog", 0.9], ["cat", 0.8]], "others are new");
  // Two that overlap are not both taken for the one before.
  const twice = views.blend(seen(["cat", 0.4, here!]), seen(["cat", 0.9, here!], ["cat", 0.8, moved!]));
  assert.deepEqual(twice.objects.map(({ score }) => Math.round(100 * score)), [80, 55]);
});
