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


# Corners of the colour cube, black left out: what bilinear sampling mixes of two of them is far
# from any other, and black is what lies outside of an image.
CORNERS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [255, 255, 0]], np.uint8
)


def painted_mask(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A mask of large fields of the five classes of `CORNERS`."""
    coarse = np.random.default_rng(seed).integers(0, len(CORNERS), (3, 4), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def classes_of_colours(images: np.ndarray, margin: int = 1) -> np.ndarray:
    """Reads the classes off images that were painted with `CORNERS`.

    Args:
        images: float `(N, H, W, 3)` in [0, 1].
        margin: How far a pixel must be from one of another colour to be sure.

    Returns:
        int `(N, H, W)`: classes, 255 for black, -1 where the colours are mixed or border others.
    """
    colours = np.concatenate([CORNERS / 255, np.zeros((1, 3))])
    distances = np.abs(images[..., None, :] - colours).max(-1)
    classes = np.where(distances.min(-1) < 0.1, distances.argmin(-1), -1)
    sure = classes.copy()
    height, width = classes.shape[1:]
    padded = np.pad(classes, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    for top in range(2 * margin + 1):
        for left in range(2 * margin + 1):
            moved = padded[:, top : top + height, left : left + width]
            sure = np.where(moved == classes, sure, -1)
    return np.where(sure == len(CORNERS), 255, sure)


class Listed(Source):
    """Records that are held in memory, the same in both splits and in both orders.

    Args:
        records: Dicts of equal keys, `image` and `name` among them.
        fields: See `Source`.
        class_names: Names of the classes.
    """

    def __init__(self, records: list[dict], fields, class_names):
        self.fields = tuple(fields)
        self._records = {
            key: tf.stack([tf.constant(record[key]) for record in records]) for key in records[0]
        }
        counts = {"train": len(records), "validation": len(records)}
        super().__init__(class_names, counts)

    def __str__(self):
        return "listed"

    def records(self, split, seed, start):
        return tf.data.Dataset.from_tensor_slices(self._records).skip(start)


def painted_source(count: int = 12, image_format: str = "PNG", masks=None) -> Listed:
    """Images of several shapes whose colours say their masks."""
    records = []
    for number in range(count):
        mask = painted_mask(number, 80 + 9 * (number % 5), 150 - 14 * (number % 4))
        options = {"quality": 98, "subsampling": 0} if image_format == "JPEG" else {}
        records.append(
            {
                "image": encode(CORNERS[mask], image_format, **options),
                "mask": encode(mask, "PNG") if masks is None else masks[number],
                "name": f"{number}.png",
            }
        )
    return Listed(records, ("mask",), "rgbwy")


def framed_source(count: int = 24, image_format: str = "PNG") -> Listed:
    """White images with a red rectangle and a blue one, which are their boxes."""
    records = []
    for number in range(count):
        generator = np.random.default_rng(number)
        height, width = 90 + 10 * (number % 4), 140 - 15 * (number % 3)
        image = np.full((height, width, 3), 255, np.uint8)
        boxes = np.zeros((4, 4), np.float32)
        # One in the left half, one in the right half, so that they do not cover each other.
        for label, start in enumerate((0, width // 2)):
            left = start + generator.integers(2, width // 4)
            top = generator.integers(2, height // 2)
            right = min(left + generator.integers(10, width // 4), start + width // 2 - 2)
            bottom = top + generator.integers(10, height // 2 - 2)
            image[top:bottom, left:right] = CORNERS[2 * label]
            boxes[label] = left, top, right, bottom
        options = {"quality": 98, "subsampling": 0} if image_format == "JPEG" else {}
        records.append(
            {
                "image": encode(image, image_format, **options),
                "boxes": boxes,
                "labels": np.array([0, 1, -1, -1]),
                "name": f"{number}.png",
            }
        )
    return Listed(records, ("boxes", "labels"), ("red", "blue"))
