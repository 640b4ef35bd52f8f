"""The objects in an image: their boxes and classes, and which of them a record holds."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.targets import NO_OBJECT

PLAIN, DIFFICULT, CROWD = 0, 1, 2
"""What a record's `ignored` says of an object."""


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects of one image.

    Attributes:
        boxes: float32 `(M, 4)`: left, top, right and bottom.
        labels: int64 `(M,)`.
        ignored: int64 `(M,)`.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[float], int, int]]) -> "Objects":
        """Makes them of (box, label, ignored) of each."""
        boxes, labels, ignored = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
            np.array(ignored, np.int64),
        )


def clip(
    box: Sequence[float] | None, shape: tuple[int, int] | None
) -> tuple[tuple[float, ...] | None, str]:
    """A box as it can be used, or why it cannot.

    Args:
        box: Left, top, right and bottom in pixels; None where they are not known.
        shape: Height and width of the image, where they are known.

    Returns:
        The part of the box that lies in the image, or None; and the reason, in words that follow
        "boxes".
    """
    if box is None:
        return None, "that are not four numbers"
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        return None, "without area"
    if shape is not None:
        height, width = shape
        left, right = max(left, 0.0), min(right, float(width))
        top, bottom = max(top, 0.0), min(bottom, float(height))
    if right <= left or bottom <= top:
        return None, "outside of the image"
    # As records have them, in float32, its sides may be one.
    if np.float32(right) <= np.float32(left) or np.float32(bottom) <= np.float32(top):
        return None, "without area"
    return (left, top, right, bottom), ""


def has_crowds(split: str, fields: Sequence[str]) -> bool:
    """Whether records hold boxes around crowds.

    A crowd has no box that a detector could learn; an evaluation passes over what it finds there.
    """
    return split == "validation" and "ignored" in fields


def fill_up(
    boxes: tf.Tensor, labels: tf.Tensor, ignored: tf.Tensor, most: int, fields: Sequence[str]
) -> dict[str, tf.Tensor]:
    """A record's entries, of as many rows for every image.

    Args:
        boxes: float32 `(M, 4)`.
        labels: int64 `(M,)`.
        ignored: int64 `(M,)`.
        most: How many rows there are to be, M or more.
        fields: The entries that the record has.
    """
    rest = most - tf.shape(labels)[0]
    entries = {
        "boxes": tf.ensure_shape(tf.pad(boxes, [[0, rest], [0, 0]]), (most, 4)),
        "labels": tf.pad(labels, [[0, rest]], constant_values=NO_OBJECT),
        "ignored": tf.pad(ignored, [[0, rest]], constant_values=PLAIN),
    }
    return {
        field: tf.ensure_shape(entries[field], (most, *entries[field].shape[1:]))
        for field in fields
    }
