"""What happens to an image's targets while the image is cropped, resized and mirrored."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from mobilevit_keras.data.geometry import OUTSIDE, Geometry
from mobilevit_keras.data.masks import decode_mask
from mobilevit_keras.data.source import Source

Targets = dict[str, tf.Tensor]

NO_OBJECT = -1
"""The label of a box that is none: a row that only fills up."""


@dataclasses.dataclass(frozen=True)
class TargetKind:
    """Targets that lie in an image. Others, such as a label, belong to it as a whole.

    Attributes:
        fields: The record's entries that they are made of, in the record's order; they come and go
            together.
        decode: Makes of (source, record, shape of the upright image) the targets of that image;
            raises, when run, where they do not fit it.
        move: Takes the targets along with the pixels.
        padding: What fills an entry up to the largest one of a batch.
    """

    fields: tuple[str, ...]
    decode: Callable[[Source, Mapping[str, tf.Tensor], tf.Tensor], Targets]
    move: Callable[[Targets, Geometry], Targets]
    padding: Mapping[str, int | float]


def _decode_mask(source, record, shape):
    contents = source.load_mask(record["mask"])
    return {"mask": decode_mask(contents, shape, len(source.class_names))}


def _move_mask(targets, geometry):
    return {"mask": tf.ensure_shape(geometry.mask(targets["mask"]), (None, None))}


def _decode_boxes(source, record, shape):
    return {
        "boxes": tf.ensure_shape(source.load_boxes(record, shape), (None, 4)),
        "labels": tf.ensure_shape(record["labels"], (None,)),
    }


def _move_boxes(targets, geometry):
    """Boxes whose centre leaves the window become padding, the rest is clipped."""
    boxes = geometry.boxes(targets["boxes"])
    bounds = geometry.bounds()
    start, end = bounds[:2], bounds[2:]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    inside = tf.reduce_all((centre > start) & (centre < end), 1)
    kept = inside & (targets["labels"] != NO_OBJECT)
    clipped = tf.clip_by_value(boxes, tf.tile(start, [2]), tf.tile(end, [2]))
    return {
        "boxes": tf.where(kept[:, None], clipped, 0.0),
        "labels": tf.where(kept, targets["labels"], NO_OBJECT),
    }


KINDS = (
    TargetKind(("mask",), _decode_mask, _move_mask, {"mask": OUTSIDE}),
    TargetKind(
        ("boxes", "labels"), _decode_boxes, _move_boxes, {"boxes": 0.0, "labels": NO_OBJECT}
    ),
)


def kinds_in_image(fields: Sequence[str]) -> list[TargetKind]:
    """The kinds of those of a source's fields that lie in the image."""
    return [kind for kind in KINDS if set(kind.fields) <= set(fields)]


def whole_fields(fields: Sequence[str]) -> list[str]:
    """Those of a source's fields that belong to an image as a whole."""
    moved = {name for kind in kinds_in_image(fields) for name in kind.fields}
    return [name for name in fields if name not in moved]


def decode_targets(source: Source, record: Mapping[str, tf.Tensor], shape: tf.Tensor) -> Targets:
    """Returns those of a record's targets that lie in the image, as they lie in the upright one.

    Args:
        source: Where the record is from.
        record: The record.
        shape: Height and width of the upright image, int32.
    """
    targets = {}
    for kind in kinds_in_image(source.fields):
        targets |= kind.decode(source, record, shape)
    return targets


def move_targets(targets: Targets, geometry: Geometry) -> Targets:
    """Takes what `decode_targets` returned along with the image's pixels."""
    moved = {}
    for kind in kinds_in_image(tuple(targets)):
        moved |= kind.move(targets, geometry)
    return moved


def padding(fields: Sequence[str]) -> dict[str, int | float]:
    """What fills targets up to the largest of a batch, for those of the fields that need it."""
    return {name: value for kind in kinds_in_image(fields) for name, value in kind.padding.items()}


def as_y(targets: Targets):
    """The targets as Keras takes them: the only one itself, or a dict of several."""
    return next(iter(targets.values())) if len(targets) == 1 else targets


def as_targets(y, fields: Sequence[str]) -> dict:
    """The way back from `as_y`: the targets by name.

    Args:
        y: What a dataset gives, batched or not.
        fields: The source's fields.
    """
    return {fields[0]: y} if len(fields) == 1 else dict(y)
