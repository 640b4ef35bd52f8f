"""Where images come from: what every kind of source gives, in which order."""

import abc
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.decoding import decode_image, why_unreadable
from mobilevit_keras.data.geometry import OUTSIDE
from mobilevit_keras.data.masks import why_unfit
from mobilevit_keras.data.threads import num_cores, untuned

SPLITS = ("train", "validation")

Seed = Sequence[int] | int | tf.Tensor | None

# What TensorFlow says where a dataset has not as many elements as were asserted.
_OTHER_COUNT = "Input dataset was expected to contain"


def permutation(seed: Sequence[int], length: int) -> np.ndarray:
    """Returns a permutation of `range(length)` that is the same in every release of numpy."""
    words = np.random.PCG64([int(value) for value in seed]).random_raw(length)
    return np.argsort(words, kind="stable").astype(np.int64)


def seed_pair(seed: Seed) -> tf.Tensor:
    """Returns a seed as int64 of shape `(2,)`; a single number stands for (number, 0)."""
    seed = tf.cast(tf.convert_to_tensor(seed), tf.int64)
    return tf.stack([seed, 0]) if seed.shape.rank == 0 else tf.ensure_shape(seed, (2,))


class Source(abc.ABC):
    """Images with their targets in two splits, `train` and `validation`.

    A record is a dictionary: `image` (string), `name` (string, for messages) and a target for each
    of `fields`. What `image`, `mask` and `boxes` hold is the source's affair until `load`,
    `load_mask` and `load_boxes` have been at it. Records are small or cheap to shuffle, loaded and
    decoded only after that.

    Targets by their fields:
    - `label`: the image's class, an int64 scalar;
    - `mask`: a string of which `load_mask` makes the bytes of a PNG file of class numbers, as large
      as the upright image, 255 where none is known;
    - `boxes` and `labels`: float32 `(M, 4)`, of which `load_boxes` makes left, top, right and
      bottom in pixels of the upright image, and int64 `(M,)`, their classes. M is the same for all
      records; what is left is filled with zeros and -1. With `ignored`, int64 `(M,)`, there are
      also those that an evaluation neither asks for nor counts as wrong: 1 is a difficult one, 2
      one around a crowd, any part of which may be found, and 0 none of these.

    Args:
        class_names: Names of the classes in index order.
        num_examples: Number of images of each split.

    Attributes:
        fields: Names of the targets that a record holds beside image and name.
        left_out: One line on the files that lie there and are not used, and why; empty where there
            are none.

    Raises:
        ValueError: If there are fewer than two classes (of boxes: one), more of masks than their
            numbers can tell, or a split is empty.
    """

    fields: tuple[str, ...] = ("label",)
    left_out: str = ""

    def __init__(self, class_names: Sequence[str], num_examples: dict[str, int]):
        self.class_names = tuple(class_names)
        _check_names(self, self.class_names)
        self._num_examples = dict(num_examples)
        # What is in no box is another class, so to speak.
        if len(self.class_names) < (1 if "boxes" in self.fields else 2):
            least = "boxes need a class" if "boxes" in self.fields else "images need two classes"
            raise ValueError(f"{self}: {least} or more. Received: {list(self.class_names)}.")
        if "mask" in self.fields and len(self.class_names) > OUTSIDE:
            raise ValueError(
                f"{self}: masks tell {OUTSIDE} classes apart at most. "
                f"Received: {len(self.class_names)}."
            )
        for split in SPLITS:
            if self._num_examples[split] < 1:
                raise ValueError(f"{self}: the split {split!r} holds no images.")

    @abc.abstractmethod
    def __str__(self) -> str:
        """Returns the string that names the source."""

    def num_examples(self, split: str) -> int:
        """Returns the number of images of a split."""
        self.check_split(split)
        return self._num_examples[split]

    @abc.abstractmethod
    def records(self, split: str, seed: tf.Tensor | None, start: tf.Tensor) -> tf.data.Dataset:
        """Returns a split's records, callable eagerly or while a dataset function is traced.

        Args:
            split: `"train"` or `"validation"`.
            seed: int64 of shape `(2,)` that the order is a function of, or None for stored order.
            start: How many records of that order to leave out, scalar int64.
        """

    def load(self, image: tf.Tensor) -> tf.Tensor:
        """Returns the bytes of an image file, given a record's `image`. Runs in parallel maps."""
        return image

    def load_mask(self, mask: tf.Tensor) -> tf.Tensor:
        """Returns the bytes of a PNG file, given a record's `mask`. Runs in parallel maps."""
        return mask

    def load_boxes(self, record: Mapping[str, tf.Tensor], shape: tf.Tensor) -> tf.Tensor:
        """Returns a record's `boxes` in pixels of its image. Runs in parallel maps.

        Args:
            record: The record.
            shape: Height and width of the upright image, int32.

        Raises:
            tf.errors.OpError: When run on boxes of an image of another size.
        """
        return record["boxes"]

    def why_unreadable(self, record: Mapping[str, Any]) -> str:
        """Says in a few words why an image or its target cannot be used.

        Args:
            record: Its `name`, `image` and, where there is one, `mask`, as `records` has them.

        Returns:
            What is to be said beside the name; empty where there is nothing special.
        """
        try:
            image = self.load(tf.constant(record["image"])).numpy()
        except tf.errors.OpError:
            return ""
        why = why_unreadable(image)
        if why or "mask" not in record:
            return why
        return self.why_unfit(record["mask"], image)

    def why_unfit(self, mask: Any, image: bytes) -> str:
        """Says in a few words what is wrong with a record's `mask`; empty where nothing is.

        Args:
            mask: As `records` has it.
            image: The bytes of its image's file.
        """
        try:
            contents = self.load_mask(tf.constant(mask)).numpy()
        except tf.errors.OpError:
            # Of what cannot be made another file; what was stored says why.
            contents = mask
        return why_unfit(contents, image, len(self.class_names))

    def diagnose(self, error: tf.errors.OpError) -> str | None:
        """Says in a person's words what an error of an iterator means.

        Returns:
            One sentence, or None where the error did not come from reading the records.
        """
        if isinstance(error, tf.errors.DataLossError | tf.errors.NotFoundError):
            return f"The stored records must be whole. Received: {self} ({error.message})."
        if isinstance(error, tf.errors.FailedPreconditionError) and _OTHER_COUNT in error.message:
            return (
                "The stored records must be those that were counted when the source was opened. "
                f"Received: {self}, which holds more or fewer; start again to count them anew."
            )
        return None

    def examples(self, split: str, *, shuffle_seed: Seed = None, start: int = 0) -> tf.data.Dataset:
        """Returns a split's images as encoded bytes.

        Args:
            split: `"train"` or `"validation"`.
            shuffle_seed: A number, or a pair such as (seed, epoch), that the order is a function
                of; None keeps the stored order.
            start: How many examples of that order to leave out.

        Returns:
            A dataset of records whose `image` and `mask` hold the bytes of files, and whose `boxes`
            are in pixels of an image of height and width `shape`.
        """
        seed = None if shuffle_seed is None else seed_pair(shuffle_seed)
        records = self.records(split, seed, tf.constant(start, tf.int64))
        return records.map(
            self._loaded,
            num_parallel_calls=num_cores(),
            deterministic=True,
        ).with_options(untuned())

    def _loaded(self, record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        record = {**record, "image": self.load(record["image"])}
        if "mask" in self.fields:
            record["mask"] = self.load_mask(record["mask"])
        if "boxes" in self.fields:
            record["shape"] = tf.shape(decode_image(record["image"]))[:2]
            record["boxes"] = self.load_boxes(record, record["shape"])
        return record

    def check_split(self, split: str) -> None:
        """Raises ValueError unless the split is one of the two."""
        if split not in SPLITS:
            raise ValueError(f"`split` must be one of {SPLITS}. Received: {split!r}.")


def printable(text: str | bytes | os.PathLike) -> str:
    """A path or name as text that can be printed, whatever bytes the system stores it as."""
    return os.fsencode(text).decode(errors="replace")


def _check_names(source: Source, class_names: tuple[str, ...]) -> None:
    """Class names become lines of files and of the screen."""
    for name in class_names:
        # Control characters, halves of characters (bytes that are no UTF-8), ends of lines.
        kinds = {unicodedata.category(character) for character in name.replace("\t", " ")}
        if kinds & {"Cc", "Cs", "Zl", "Zp"}:
            raise ValueError(
                f"{source}: a class's name must be one line of text. Received: {name!a}."
            )


def seeded(seed: tf.Tensor, build: Callable[[tf.Tensor], tf.data.Dataset]) -> tf.data.Dataset:
    """Builds a dataset whose shuffles are a function of a seed alone.

    `Dataset.shuffle` mixes the program's global seed into its own. Inside of a dataset function the
    graph's seed takes the global one's place, and there it can be held constant.

    Args:
        seed: int64 of shape `(2,)`.
        build: Takes a scalar int64 seed for `Dataset.shuffle`, returns the dataset.
    """

    def trace(pair):
        tf.compat.v1.set_random_seed(1)
        scalar = tf.random.stateless_uniform(
            (), pair, minval=0, maxval=2**31 - 1, dtype=tf.int64, alg="philox"
        )
        return build(scalar)

    return tf.data.Dataset.from_tensors(seed).flat_map(trace)
