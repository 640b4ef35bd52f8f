"""Which features of a tensorflow_datasets set are an image's targets, and how they are read."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from mobilevit_keras.data.geometry import OUTSIDE
from mobilevit_keras.data.sources import relative_boxes
from mobilevit_keras.data.sources.objects import CROWD, DIFFICULT
from mobilevit_keras.source_kinds import LABEL, MASK

# Of masks that are images without names of their classes: the number of the first class, and names.
_KNOWN_MASKS = {"oxford_iiit_pet": (1, ("pet", "background", "border"))}
_MASK_KEY = "segmentation_mask"
# Flags of objects, as the sets call them.
_FLAGS = {"is_difficult": DIFFICULT, "is_crowd": CROWD}


class Target(abc.ABC):
    """A set's target.

    Attributes:
        wanted: What a set must have, in words.
        class_names: Names of the classes in index order.
        features: What is to be read of an example, as `PartialDecoding` has it.
        encoded: Those of the features that stay files.
    """

    wanted: ClassVar[str]
    class_names: Sequence[str]
    features: dict[str, Any]
    encoded: tuple[str, ...] = ()

    @abc.abstractmethod
    def entries(self, example: Mapping[str, Any], split: str) -> dict[str, tf.Tensor]:
        """What a record of a split holds of an example."""


def target_of(name: str, builder: Any, fields: Sequence[str]) -> Target:
    """Returns the target that gives records these fields.

    Args:
        name: The set, for messages.
        builder: Its builder.
        fields: The fields.

    Raises:
        ValueError: If the set has no such target, or several.
    """
    if tuple(fields) == LABEL:
        return LabelTarget(name, builder)
    if tuple(fields) == MASK:
        return MaskTarget(name, builder)
    return BoxesTarget(name, builder, fields)


class LabelTarget(Target):
    """A class label."""

    wanted = "one image and one class label"

    def __init__(self, name: str, builder: Any):
        import tensorflow_datasets as tfds

        self._key = _only(name, builder, tfds.features.ClassLabel, self.wanted)
        self.class_names = builder.info.features[self._key].names
        self.features = {self._key: True}

    def entries(self, example: Mapping[str, Any], split: str) -> dict[str, tf.Tensor]:
        return {"label": tf.cast(example[self._key], tf.int64)}


class MaskTarget(Target):
    """A mask: an image with labels, or one of a set that is known.

    Attributes:
        first: The number that class 0 has in the masks.
    """

    wanted = "one image and one of class numbers"

    def __init__(self, name: str, builder: Any):
        import tensorflow_datasets as tfds

        features = builder.info.features
        labelled = [k for k, v in features.items() if isinstance(v, tfds.features.LabeledImage)]
        if len(labelled) == 1 and features[labelled[0]].num_classes:
            (self._key,) = labelled
            self.first, self.class_names = 0, features[self._key].names
        elif not labelled and builder.name in _KNOWN_MASKS:
            self._key = _MASK_KEY
            self.first, self.class_names = _KNOWN_MASKS[builder.name]
        else:
            raise ValueError(
                f"{name}: a set with {self.wanted} is needed, as a LabeledImage with their names, "
                f"or one of {', '.join(_KNOWN_MASKS)}. Received: {list(features)}."
            )
        self.features = {self._key: True}
        self.encoded = (self._key,)

    def entries(self, example: Mapping[str, Any], split: str) -> dict[str, tf.Tensor]:
        return {"mask": example[self._key]}

    def load(self, mask: tf.Tensor) -> tf.Tensor:
        """A mask whose classes are counted from 0; numbers before the first are none."""
        if not self.first:
            return mask
        numbers = tf.io.decode_png(mask, channels=1)
        known = (numbers >= self.first) & (numbers != OUTSIDE)
        numbers = tf.where(known, numbers - self.first, OUTSIDE)
        return tf.io.encode_png(numbers, compression=1)


class BoxesTarget(Target):
    """Boxes with class labels, and what else is known of them.

    Attributes:
        most: The most boxes of an image.
    """

    wanted = "one image and one sequence of boxes and their class labels"

    def __init__(self, name: str, builder: Any, fields: Sequence[str]):
        self._fields = tuple(fields)
        self.most = 0
        found = []
        for key, feature in builder.info.features.items():
            inner = getattr(feature, "feature", None)
            parts = _parts(inner) if hasattr(inner, "items") else None
            if parts is not None:
                found.append((key, inner, *parts))
        if len(found) != 1:
            raise ValueError(
                f"{name}: a set with {self.wanted} is needed. "
                f"Received: {[key for key, *_ in found] or list(builder.info.features)}."
            )
        self._key, inner, self._box, self._label = found[0]
        self._flags = [flag for flag in _FLAGS if flag in inner]
        self.class_names = inner[self._label].names
        parts = (self._box, self._label, *self._flags)
        self.features = {self._key: {part: True for part in parts}}

    def entries(self, example: Mapping[str, Any], split: str) -> dict[str, tf.Tensor]:
        objects = example[self._key]
        labels = tf.cast(objects[self._label], tf.int64)
        ignored = tf.zeros_like(labels)
        for flag in self._flags:
            ignored = tf.maximum(ignored, _FLAGS[flag] * tf.cast(objects[flag], tf.int64))
        # Such a label stands for "not known" in some sets.
        named = labels >= 0
        boxes, labels, ignored = (
            tf.boolean_mask(values, named) for values in (self._boxes(example), labels, ignored)
        )
        return relative_boxes.entries(
            boxes, labels, ignored, most=self.most, split=split, fields=self._fields
        )

    def survey(self, example: Mapping[str, Any]) -> tf.Tensor:
        """How many boxes an example has, and how many of them are not used: int64 `(2,)`."""
        boxes = self._boxes(example)
        named = tf.cast(example[self._key][self._label], tf.int64) >= 0
        lost = tf.math.count_nonzero(~(relative_boxes.has_area(boxes) & named))
        return tf.stack([tf.shape(boxes, tf.int64)[0], lost])

    def _boxes(self, example: Mapping[str, Any]) -> tf.Tensor:
        # top, left, bottom, right -> left, top, right, bottom
        return tf.gather(example[self._key][self._box], [1, 0, 3, 2], axis=1)


def image_key(name: str, builder: Any, target: Target) -> str:
    """The key of a set's images; raises ValueError where there is none, or several."""
    import tensorflow_datasets as tfds

    return _only(name, builder, tfds.features.Image, target.wanted, but=target.encoded)


def _only(name: str, builder: Any, kind: type, wanted: str, but: Sequence[str] = ()) -> str:
    """The key of a set's only feature of a kind, or of the only one that it is supervised by."""
    # Not isinstance: boxes, videos and masks derive from these or contain them.
    features = builder.info.features.items()
    candidates = [key for key, value in features if type(value) is kind and key not in but]
    supervised = builder.info.supervised_keys or ()
    preferred = [key for key in candidates if key in supervised] or candidates
    if len(preferred) != 1:
        raise ValueError(
            f"{name}: a set with {wanted} is needed. "
            f"Received: {kind.__name__} features {candidates}."
        )
    return preferred[0]


def _parts(features: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of the boxes and of the class labels of a sequence's features, if it has both."""
    import tensorflow_datasets as tfds

    boxes = [key for key, value in features.items() if type(value) is tfds.features.BBoxFeature]
    labels = [key for key, value in features.items() if type(value) is tfds.features.ClassLabel]
    # An object may also have a class label of its pose.
    labels = [key for key in labels if key == "label"] or labels
    return (boxes[0], labels[0]) if len(boxes) == len(labels) == 1 else None
