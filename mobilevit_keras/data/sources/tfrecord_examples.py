"""What a `tf.train.Example` holds of an image and its targets, written and read.

Masks are called as in TensorFlow's DeepLab, boxes as in its object detection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from mobilevit_keras.data.sources import relative_boxes
from mobilevit_keras.data.sources.objects import CROWD, DIFFICULT
from mobilevit_keras.data.targets import NO_OBJECT

IMAGE_KEY = "image/encoded"
NAME_KEY = "image/filename"
LABEL_KEY = "image/class/label"
MASK_KEY = "image/segmentation/class/encoded"
# Left, top, right and bottom in parts of the image's sides.
SIDE_KEYS = tuple(f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
OBJECT_LABEL_KEY = "image/object/class/label"
# Numbers that are 1 for some objects; they may be missing.
DIFFICULT_KEY, CROWD_KEY = "image/object/difficult", "image/object/is_crowd"


class ExampleReader:
    """Makes records of serialized examples.

    Args:
        fields: The targets of the records.
        num_classes: Number of classes.

    Attributes:
        most: Rows of boxes, where there are any.
    """

    def __init__(self, fields: Sequence[str], num_classes: int):
        self._fields = tuple(fields)
        self._num_classes = num_classes
        self.most = 0

    def needs(self) -> str:
        """What an example must hold, in words."""
        last = self._num_classes - 1
        needs = {
            "label": f"a `{LABEL_KEY}` from 0 to {last}",
            "mask": f"a mask's `{MASK_KEY}`",
            "boxes": f"a number for each box in {', '.join(f'`{key}`' for key in SIDE_KEYS)}",
            "labels": f"a `{OBJECT_LABEL_KEY}` from 1 to {last + 1} for each",
        }
        targets = ", and ".join(needs[field] for field in self._fields if field in needs)
        return f"`{IMAGE_KEY}`, and {targets}"

    def wrong(self, message: str) -> str | None:
        """Which key of an example an error's message is about, if it is about one."""
        keys = (IMAGE_KEY, LABEL_KEY, MASK_KEY, *SIDE_KEYS, OBJECT_LABEL_KEY)
        return next((key for key in reversed(keys) if key in message), None)

    def read(self, serialized: tf.Tensor, split: str) -> dict[str, tf.Tensor]:
        """Returns the record that an example of a split makes."""
        features = {
            IMAGE_KEY: tf.io.FixedLenFeature((), tf.string),
            NAME_KEY: tf.io.FixedLenFeature((), tf.string, default_value="a record without a name"),
        }
        if "label" in self._fields:
            features[LABEL_KEY] = tf.io.FixedLenFeature((), tf.int64)
        if "mask" in self._fields:
            features[MASK_KEY] = tf.io.FixedLenFeature((), tf.string)
        if "boxes" in self._fields:
            features |= _object_features()
        example = tf.io.parse_single_example(serialized, features)
        record = {"image": example[IMAGE_KEY], "name": example[NAME_KEY]}
        if "label" in self._fields:
            record["label"] = self._checked(example[LABEL_KEY], LABEL_KEY, 0)
        if "mask" in self._fields:
            record["mask"] = example[MASK_KEY]
        if "boxes" in self._fields:
            record |= self._objects(example, split)
        return record

    def _checked(self, labels: tf.Tensor, key: str, first: int) -> tf.Tensor:
        """Labels counted from 0; refuses what is none, as a record's class is not ours to guess."""
        valid = tf.reduce_all((labels >= first) & (labels < first + self._num_classes))
        check = tf.debugging.Assert(
            valid, [f"`{key}` must be one of {self._num_classes} classes. Received:", labels]
        )
        with tf.control_dependencies([check]):
            return labels - first

    def _objects(self, example: Mapping[str, tf.Tensor], split: str) -> dict[str, tf.Tensor]:
        boxes = _boxes(example)
        labels = self._checked(example[OBJECT_LABEL_KEY], OBJECT_LABEL_KEY, 1)
        count = tf.shape(boxes)[0]
        even = tf.debugging.Assert(
            tf.shape(labels)[0] == count,
            [f"`{OBJECT_LABEL_KEY}` must be of as many boxes as there are. Received:", labels],
        )
        with tf.control_dependencies([even]):
            labels = tf.identity(labels)
        ignored = tf.maximum(
            DIFFICULT * _flags(example[DIFFICULT_KEY], count),
            CROWD * _flags(example[CROWD_KEY], count),
        )
        return relative_boxes.entries(
            boxes, labels, ignored, most=self.most, split=split, fields=self._fields
        )


def survey(serialized: tf.Tensor) -> tf.Tensor:
    """How many boxes an example has, and how many of them without area: int64 `(2,)`."""
    features = {key: _object_features()[key] for key in SIDE_KEYS}
    boxes = _boxes(tf.io.parse_single_example(serialized, features))
    lost = tf.math.count_nonzero(~relative_boxes.has_area(boxes))
    return tf.stack([tf.shape(boxes, tf.int64)[0], lost])


def write_example(example: Mapping[str, Any]) -> bytes:
    """Serializes one of a source's examples, as `Source.examples` gives them."""
    features = {
        IMAGE_KEY: _strings(example["image"]),
        NAME_KEY: _strings(example["name"]),
    }
    if "label" in example:
        features[LABEL_KEY] = _integers([example["label"]])
    if "mask" in example:
        features[MASK_KEY] = _strings(example["mask"])
    if "boxes" in example:
        real = example["labels"] != NO_OBJECT
        height, width = example["shape"]
        sides = example["boxes"][real] / [width, height, width, height]
        for key, values in zip(SIDE_KEYS, sides.T, strict=True):
            features[key] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        features[OBJECT_LABEL_KEY] = _integers(example["labels"][real] + 1)
        if "ignored" in example:
            ignored = example["ignored"][real]
            features[DIFFICULT_KEY] = _integers(ignored == DIFFICULT)
            features[CROWD_KEY] = _integers(ignored == CROWD)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _object_features() -> dict[str, tf.io.RaggedFeature]:
    numbers = (OBJECT_LABEL_KEY, DIFFICULT_KEY, CROWD_KEY)
    features = {key: tf.io.RaggedFeature(tf.float32) for key in SIDE_KEYS}
    return features | {key: tf.io.RaggedFeature(tf.int64) for key in numbers}


def _boxes(example: Mapping[str, tf.Tensor]) -> tf.Tensor:
    sides = [example[key] for key in SIDE_KEYS]
    lengths = tf.stack([tf.shape(side)[0] for side in sides])
    even = tf.debugging.Assert(
        tf.reduce_all(lengths == lengths[0]),
        [f"`{SIDE_KEYS[0]}` and the other sides must be of as many boxes. Received:", lengths],
    )
    with tf.control_dependencies([even]):
        return tf.stack(sides, 1)


def _flags(values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """0 or 1 for each object; those beyond the values have 0."""
    values = tf.pad(values[:count], [[0, tf.maximum(count - tf.shape(values)[0], 0)]])
    return tf.cast(values != 0, tf.int64)


def _strings(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _integers(values: Sequence[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value) for value in values]))
