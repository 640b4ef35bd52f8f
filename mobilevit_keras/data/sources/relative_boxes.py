"""Boxes that are stored in parts of an image's sides, in records that hold the image's bytes."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from mobilevit_keras.data.sources.objects import CROWD, fill_up, has_crowds


def has_area(boxes: tf.Tensor) -> tf.Tensor:
    """Whether there is something between the sides of each box, once it is clipped to the image.

    Args:
        boxes: float32 `(M, 4)`, left, top, right and bottom in parts of the image's sides.

    Returns:
        Booleans `(M,)`; a box with a side that is no number, or infinite, has none.
    """
    clipped = tf.clip_by_value(boxes, 0.0, 1.0)
    # What becomes of something that is no number is not the same on every processor.
    known = tf.reduce_all(tf.math.is_finite(boxes), 1)
    return known & tf.reduce_all(clipped[:, 2:] > clipped[:, :2], 1)


def entries(
    boxes: tf.Tensor,
    labels: tf.Tensor,
    ignored: tf.Tensor,
    *,
    most: int,
    split: str,
    fields: Sequence[str],
) -> dict[str, tf.Tensor]:
    """What a record says of an image's objects: those that can be used, filled up.

    Args:
        boxes: float32 `(M, 4)`, left, top, right and bottom in parts of the image's sides.
        labels: int64 `(M,)`.
        ignored: int64 `(M,)`.
        most: Rows of the entries.
        split: The split that the record is of.
        fields: The entries that the record has.
    """
    kept = has_area(boxes)
    if not has_crowds(split, fields):
        kept &= ignored != CROWD
    boxes = tf.boolean_mask(tf.clip_by_value(boxes, 0.0, 1.0), kept)
    return fill_up(
        boxes, tf.boolean_mask(labels, kept), tf.boolean_mask(ignored, kept), most, fields
    )


def in_pixels(record: Mapping[str, tf.Tensor], shape: tf.Tensor) -> tf.Tensor:
    """A record's boxes in pixels of its image, given the image's height and width."""
    return record["boxes"] * tf.cast(tf.gather(shape, [1, 0, 1, 0]), tf.float32)


def left_out(count: int, why: str = "without area in the image") -> str:
    """What a source says of boxes that it leaves out; empty where there are none."""
    noun = "box" if count == 1 else "boxes"
    return f"{count} {noun} left out: {count} {why}" if count else ""
