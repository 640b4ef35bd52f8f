"""Time that a detector's answers to one frame take in Python: boxes, suppression, drawing.

  python -m benchmarks.frame_of_boxes

Of SSDLite's 3,232 anchors at 320 px and 80 classes, by both rules, drawn over 640 x 480 pixels.
Exits with status 1 where decoding, suppression and drawing take 5 ms or more together.
"""

import argparse
import sys
import time

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

LIMIT_MS = 5.0
NAMES = tuple(f"class {number}" for number in range(80))
_SCORE = 0.3


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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--objects", type=int, default=12)
    options = parser.parse_args(arguments)
    decoding = BoxDecoding((320, 320), 0.1, 1.05)
    location, scores = answers(decoding, options.objects)
    frame = np.zeros((480, 640, 3), np.uint8)
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
        # Of a machine that does nothing else.
        best = 1e3 * np.min(times, axis=0)
        total = best.sum()
        parts = ", ".join(
            f"{part} {value:.2f}"
            for part, value in zip(("decoding", "suppression", "drawing"), best, strict=True)
        )
        print(f"{name}: {total:.2f} ms ({parts}), {len(found['labels'])} boxes")
        failed |= bool(total >= LIMIT_MS)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
