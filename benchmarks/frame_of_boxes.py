"""Time that a detector's answers to one frame take in Python and in the page: boxes, drawing.

  python -m benchmarks.frame_of_boxes

Of SSDLite's 3,232 anchors at 320 px and 80 classes, in Python by both rules, drawn over 640 x 480
pixels; in Chromium by the page's own code (after `make web`), the picture's pixels read to see that
they are drawn.
Exits with status 1 where decoding, suppression and drawing take 5 ms or more together.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mobilevit_keras.boxes import (
    RULES,
    BoxDecoding,
    encode_boxes,
    file_order,
    overlaps,
    suppress,
    to_pixels,
)
from mobilevit_keras.data.preview import draw_boxes
from tests.run.chromium import chromium

LIMIT_MS = 5.0
SIZE, FRAME = (320, 320), (480, 640)
NAMES = tuple(f"class {number}" for number in range(80))
_SCORE = 0.3

WEB = Path(__file__).parents[1] / "convert" / "web"
_USED = """
export { decodeBox, makeAnchors, suppress } from "./infer/boxes";
export { classColour } from "./infer/palette";
export { Overlay } from "./app/stage/overlay";
"""
_STAGE = """<!doctype html><div style="position: relative; width: {1}px; height: {0}px">
<canvas id="mask" hidden></canvas><canvas id="boxes" style="width: 100%; height: 100%"></canvas>
</div>"""
_TIMED = """([decoding, size, frame, location, scores, names, threshold, rounds]) => {
  const anchors = page.makeAnchors(decoding, size);
  const [locations, all] = [Float32Array.from(location), Float32Array.from(scores)];
  const [mask, boxes] = ["mask", "boxes"].map((id) => document.getElementById(id));
  const overlay = new page.Overlay(boxes.parentElement, mask, boxes);
  const context = boxes.getContext("2d");
  const sides = [frame[1], frame[0], frame[1], frame[0]];
  const times = [];
  let count = 0;
  for (let round = 0; round < rounds; round++) {
    const began = performance.now();
    const boxOf = (at) => page.decodeBox(locations, anchors, decoding.variance, at);
    const found = page.suppress(boxOf, all, names.length, threshold);
    const suppressed = performance.now();
    const marks = found.map(({ box, index, score }) => ({
      box: box.map((value, axis) => value * sides[axis]),
      colour: page.classColour(1 + index),
      label: `${names[index]} ${Math.round(100 * score)} %`,
    }));
    overlay.showBoxes(marks, frame);
    const { data } = context.getImageData(0, 0, boxes.width, boxes.height);
    times.push([suppressed - began, performance.now() - suppressed]);
    if (!data.some((value) => value > 0)) throw new Error("Nothing was drawn.");
    count = marks.length;
  }
  return { times, count };
}"""


def answers(decoding: BoxDecoding, objects: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What a file gives for an image of so many objects: all anchors that lie on one are sure."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0.0, 0.6, (objects, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(0.15, 0.4, (objects, 2))], 1)
    anchors = decoding.anchors
    half = anchors[:, 2:] / 2
    overlap = overlaps(np.concatenate([anchors[:, :2] - half, anchors[:, :2] + half], 1), boxes)
    nearest, is_sure = overlap.argmax(axis=1), overlap.max(axis=1) > 0.5
    location = np.asarray(file_order(encode_boxes(boxes[nearest], anchors)))
    location = location + generator.normal(0.0, 0.2, location.shape)
    logits = generator.normal(-6.0, 1.0, (len(anchors), len(NAMES)))
    labels = generator.integers(len(NAMES), size=objects)[nearest]
    logits[is_sure, labels[is_sure]] += generator.uniform(5.0, 9.0, is_sure.sum())
    scores = 1.0 / (1.0 + np.exp(-logits))
    return location[None].astype("float32"), scores[None].astype("float32")


def in_page(decoding: BoxDecoding, location, scores, rounds: int) -> tuple[np.ndarray, int]:
    """Milliseconds of decoding with suppression and of drawing, by rounds, and how many boxes."""
    code = subprocess.run(
        [
            WEB / "node_modules" / ".bin" / "esbuild",
            "--bundle",
            "--loader=ts",
            "--global-name=page",
        ],
        cwd=WEB / "src",
        input=_USED,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    values = [decoding.as_json(), SIZE, FRAME, location.ravel().tolist(), scores.ravel().tolist()]
    with chromium() as browser:
        page = browser.new_page()
        page.set_content(_STAGE.format(*FRAME))
        page.add_script_tag(content=code)
        found = page.evaluate(_TIMED, [*values, NAMES, _SCORE, rounds])
    return np.asarray(found["times"]), found["count"]


def is_too_slow(name: str, parts: Iterable[tuple[str, float]], boxes: int) -> bool:
    """Prints what the parts take, in milliseconds; returns whether together it is too much."""
    parts = dict(parts)
    total = sum(parts.values())
    words = ", ".join(f"{part} {value:.2f}" for part, value in parts.items())
    print(f"{name}: {total:.2f} ms ({words}), {boxes} boxes")
    return total >= LIMIT_MS


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--objects", type=int, default=12)
    options = parser.parse_args(arguments)
    decoding = BoxDecoding(SIZE, 0.1, 1.05)
    location, scores = answers(decoding, options.objects)
    frame = np.zeros((*FRAME, 3), np.uint8)
    failed = False
    for name, rules in RULES.items():
        times = []
        for _ in range(options.rounds):
            began = time.perf_counter()
            boxes = decoding.boxes(location)
            decoded = time.perf_counter()
            (found,) = suppress(boxes, scores, _SCORE, **rules)
            suppressed = time.perf_counter()
            pixels = to_pixels(found["boxes"], *frame.shape[:2])
            draw_boxes(frame, pixels, found["labels"], NAMES)
            drawn = time.perf_counter()
            times.append((decoded - began, suppressed - decoded, drawn - suppressed))
        medians = 1e3 * np.median(times, axis=0)
        parts = zip(("decoding", "suppression", "drawing"), medians, strict=True)
        failed |= is_too_slow(name, parts, len(found["labels"]))
    times, count = in_page(decoding, location, scores, options.rounds)
    parts = zip(("decoding and suppression", "drawing"), np.median(times, axis=0), strict=True)
    failed |= is_too_slow("page", parts, count)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
