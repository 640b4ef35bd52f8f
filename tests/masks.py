"""A source of pictures with masks, made in memory."""

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from mobilevit_keras.data import Source
from mobilevit_keras.data.source import permutation

NAMES = ("ground", "red", "blue")
COLOURS = np.array([(90, 110, 90), (220, 40, 30), (30, 60, 220)])
SIDES = ((48, 64), (64, 48), (56, 56))


def coloured_scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with a red and a blue rectangle, and its mask, whose frame has no class."""
    generator = np.random.default_rng(index)
    height, width = SIDES[index % len(SIDES)]
    mask = np.zeros((height, width), np.uint8)
    for number in (1, 2):
        top, left = generator.integers(2, (height // 2, width // 2))
        tall, wide = generator.integers(12, (height // 2, width // 2))
        mask[top : top + tall, left : left + wide] = number
    noise = generator.normal(0.0, 12.0, (height, width, 3))
    image = np.clip(COLOURS[mask] + noise, 0, 255).astype(np.uint8)
    mask[:2] = 255
    return image, mask


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class ColouredScenes(Source):
    """`coloured_scene`s by their numbers: those of validation begin at 1000.

    Args:
        train: Number of training images.
        validation: Number of validation images.
    """

    fields = ("mask",)

    def __init__(self, train: int = 24, validation: int = 6) -> None:
        super().__init__(NAMES, {"train": train, "validation": validation})
        self._starts = {"train": 0, "validation": 1000}

    def __str__(self) -> str:
        return "coloured scenes"

    def records(self, split, seed, start):
        scenes = [coloured_scene(self._starts[split] + i) for i in range(self.num_examples(split))]
        images = tf.constant([png(image) for image, _ in scenes])
        masks = tf.constant([png(mask) for _, mask in scenes])
        names = tf.constant([f"{split} {i}" for i in range(len(scenes))])
        order = tf.range(len(scenes), dtype=tf.int64)
        if seed is not None:
            order = tf.numpy_function(
                lambda pair: permutation(pair, len(scenes)), [seed], tf.int64, stateful=False
            )
        order = tf.ensure_shape(order, (None,))[start:]
        return tf.data.Dataset.from_tensor_slices(order).map(
            lambda index: {
                "image": images[index],
                "mask": masks[index],
                "name": names[index],
            }
        )


def write_scenes(folder: Path, count: int) -> None:
    """Writes `coloured_scene`s as a person keeps them: images/, masks/ and classes.txt."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image, mask = coloured_scene(index)
        Image.fromarray(image).save(folder / "images" / f"{index}.jpg")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES), "utf-8")
