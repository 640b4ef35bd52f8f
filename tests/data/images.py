"""Small images, and a source of them, for the data tests."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from mobilevit_keras.data.source import Source, permutation


def smooth_image(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """An image of low frequencies, so that JPEG and bilinear sampling keep it nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encode(array: np.ndarray, image_format: str, **options) -> bytes:
    """Encodes an array with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, image_format, **options)
    return buffer.getvalue()


class NumberedImages(Source):
    """Images of one colour that spells the image's number; labels are the numbers too."""

    def __init__(self, count: int, size: int = 8):
        self._images = tf.constant(
            [encode(np.full((size, size, 3), number, np.uint8), "PNG") for number in range(count)]
        )
        counts = {"train": count, "validation": count}
        super().__init__([str(number) for number in range(count)], counts)

    def __str__(self):
        return "numbered"

    def records(self, split, seed, start):
        count = self.num_examples(split)
        order = tf.range(count, dtype=tf.int64)
        if seed is not None:
            order = tf.numpy_function(lambda pair: permutation(pair, count), [seed], tf.int64)
            order = tf.ensure_shape(order, (count,))
        order = order[start:]
        return tf.data.Dataset.from_tensor_slices(
            {
                "image": tf.gather(self._images, order),
                "label": order,
                "name": tf.strings.as_string(order),
            }
        )
