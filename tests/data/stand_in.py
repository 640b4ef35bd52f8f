"""A small folder of files that are the same to the byte wherever TensorFlow is the same."""

from pathlib import Path

import numpy as np
import tensorflow as tf


def write_stand_in(root: Path) -> None:
    """Writes `train` and `validation` of two classes: JPEG and PNG files of several shapes."""
    for split, count in (("train", 18), ("validation", 5)):
        for label, name in enumerate(("a", "b")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                height, width = 90 + 31 * number % 200, 120 + 47 * (number + label) % 220
                y, x = np.mgrid[:height, :width]
                waves = [(y * (3 + c) + x * (5 - c) + 40 * number + 90 * label) for c in range(3)]
                image = np.stack([(wave // 4 + (y * x) // 64) % 256 for wave in waves], -1)
                image = tf.constant(image.astype(np.uint8))
                is_png = number % 3 == 2
                contents = tf.io.encode_png(image) if is_png else tf.io.encode_jpeg(image)
                suffix = "png" if is_png else "jpg"
                (root / split / name / f"{number:02d}.{suffix}").write_bytes(contents.numpy())
