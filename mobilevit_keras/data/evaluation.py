"""The evaluation pipeline: one pass over a split, each image resized and cropped the same way."""

import tensorflow as tf

from mobilevit_keras.data.skipped import SkippedImages
from mobilevit_keras.data.sources import Source
from mobilevit_keras.data.threads import num_cores, untuned
from mobilevit_keras.data.transforms import (
    CropSize,
    check_evaluation_size,
    crop_sides,
    evaluation_transform,
)


def evaluation_dataset(
    source: Source,
    split: str,
    *,
    short_side: int,
    crop_size: CropSize,
    interpolation: str = "bilinear",
    batch_size: int = 128,
    skipped: SkippedImages | None = None,
) -> tf.data.Dataset:
    """Returns a split's images in stored order, through the evaluation transform.

    Args:
        source: Where the images come from.
        split: `"train"` or `"validation"`.
        short_side, crop_size: See `evaluation_size`.
        interpolation: `"bilinear"` or `"bicubic"`.
        batch_size: Images of a batch; the last one may be shorter.
        skipped: Counts and names the images that could not be read and were left out. With
            `strict=True` the first one stops the pass; `clear_errors(source, skipped)` around it
            makes that a ValueError.

    Returns:
        A dataset of (images, labels): float32 `(B, h, w, 3)` of the crop's size in [0, 1] and int64
        `(B,)`.

    Raises:
        ValueError: If an argument has no such value.
    """
    check_evaluation_size(short_side, crop_size, interpolation)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive. Received: {batch_size}.")
    skipped = SkippedImages() if skipped is None else skipped

    def note(name):
        skipped.add(name.decode(errors="replace"))
        return False

    def decode(record):
        contents = source.load(record["image"])
        image = evaluation_transform(contents, short_side, crop_size, interpolation)
        return image, record["label"]

    def attempt(record):
        """One image, or a note of its name and nothing."""
        decoded = tf.data.Dataset.from_tensors(record).map(decode).ignore_errors()
        nothing = (tf.zeros((*crop_sides(crop_size), 3)), tf.constant(-1, tf.int64))
        return (
            decoded.concatenate(tf.data.Dataset.from_tensors(nothing))
            .take(1)
            .map(lambda image, label: (image, label, record["name"]))
        )

    def readable(image, label, name):
        return tf.cond(label >= 0, lambda: True, lambda: tf.numpy_function(note, [name], tf.bool))

    records = source.records(split, None, tf.constant(0, tf.int64))
    images = records.interleave(
        attempt, cycle_length=16, num_parallel_calls=min(16, num_cores()), deterministic=True
    )
    images = images.filter(readable).map(lambda image, label, name: (image, label))
    return images.batch(batch_size).prefetch(1).with_options(untuned())
