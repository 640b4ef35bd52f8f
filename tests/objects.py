"""A source of pictures with boxes, made in memory."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from mobilevit_keras.data import Source
from mobilevit_keras.data.source import permutation
from mobilevit_keras.source_kinds import BOXES_AND_IGNORED
from tests.masks import COLOURS, SIDES, png

NAMES = ("red", "blue")
MOST = 3


def coloured_objects(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image with up to three red and blue rectangles, their boxes and labels; each fourth is
    empty.
    """
    generator = np.random.default_rng(index)
    height, width = SIDES[index % len(SIDES)]
    colours = np.zeros((height, width), np.uint8)
    boxes, labels = np.zeros((MOST, 4), np.float32), np.full(MOST, -1, np.int64)
    for row in range(0 if index % 4 == 3 else generator.integers(1, MOST + 1)):
        top, left = generator.integers(1, (height // 2, width // 2))
        tall, wide = generator.integers(10, (height // 2, width // 2))
        labels[row] = generator.integers(0, 2)
        boxes[row] = left, top, left + wide, top + tall
        colours[top : top + tall, left : left + wide] = labels[row] + 1
    noise = generator.normal(0.0, 12.0, (height, width, 3))
    return np.clip(COLOURS[colours] + noise, 0, 255).astype(np.uint8), boxes, labels


class ColouredObjects(Source):
    """`coloured_objects` by their numbers: those of validation begin at 1000.

    Args:
        train: Number of training images.
        validation: Number of validation images.
    """

    fields = BOXES_AND_IGNORED

    def __init__(self, train: int = 24, validation: int = 6) -> None:
        super().__init__(NAMES, {"train": train, "validation": validation})
        self._starts = {"train": 0, "validation": 1000}

    def __str__(self) -> str:
        return "coloured objects"

    def records(self, split, seed, start):
        count = self.num_examples(split)
        scenes = [coloured_objects(self._starts[split] + i) for i in range(count)]
        images, boxes, labels = zip(*scenes, strict=True)
        columns = {
            "image": tf.constant([png(image) for image in images]),
            "name": tf.constant([f"{split} {i}" for i in range(count)]),
            "boxes": tf.constant(np.stack(boxes)),
            "labels": tf.constant(np.stack(labels)),
            "ignored": tf.zeros((count, MOST), tf.int64),
        }
        order = tf.range(count, dtype=tf.int64)
        if seed is not None:
            order = tf.numpy_function(
                lambda pair: permutation(pair, count), [seed], tf.int64, stateful=False
            )
        order = tf.ensure_shape(order, (None,))[start:]
        return tf.data.Dataset.from_tensor_slices(order).map(
            lambda index: {name: column[index] for name, column in columns.items()}
        )


def write_voc(folder: Path, count: int) -> None:
    """Writes `coloured_objects` in PASCAL VOC's form, without lists of splits."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image, boxes, labels = coloured_objects(index)
        Image.fromarray(image).save(folder / "JPEGImages" / f"{index}.jpg", quality=95)
        height, width = image.shape[:2]
        text = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        for box, label in zip(boxes.astype(int), labels, strict=True):
            if label < 0:
                continue
            # Pixels are counted from 1, and the last ones belong to the box.
            left, top, right, bottom = box + (1, 1, 0, 0)
            text += (
                f"<object><name>{NAMES[label]}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
                f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            )
        (folder / "Annotations" / f"{index}.xml").write_text(f"<annotation>{text}</annotation>")
