"""Image sets of tensorflow_datasets."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from mobilevit_keras.data.source import Source, seeded
from mobilevit_keras.data.sources import relative_boxes
from mobilevit_keras.data.sources.remembered import Remembered
from mobilevit_keras.data.sources.tfds_targets import BoxesTarget, image_key, target_of
from mobilevit_keras.data.threads import num_cores, untuned
from mobilevit_keras.source_kinds import LABEL

SHUFFLE_BUFFER = 4096
FILES_AT_A_TIME = 16
HELD_OUT = 20  # percent of the images, where a set has neither a validation nor a test split


class TfdsSource(Source):
    """A prepared tensorflow_datasets builder with an image and a target.

    The target is a class label; or a mask, an image of class numbers whose names are known; or a
    sequence of boxes and their class labels.

    `validation` is the set's split of that name, else `test`, else the last fifth of `train`.
    Images stay encoded as they are stored. The order of an epoch comes from shuffling the files and
    then the records within a buffer; memory is bounded by that buffer (4,096 encoded images). Of
    several workers each reads all records, so that all know the order.

    Args:
        name: The string that names the source.
        builder: A `tfds.core.DatasetBuilder` whose data is prepared.
        fields: The targets of the records.
        shuffle_buffer: Records in the shuffle buffer.

    Raises:
        ValueError: If the set has no image or no such target, or no training split.
    """

    def __init__(
        self,
        name: str,
        builder: Any,
        *,
        fields: Sequence[str] = LABEL,
        shuffle_buffer: int = SHUFFLE_BUFFER,
    ):
        self._name = name
        self._builder = builder
        self.fields = tuple(fields)
        self._shuffle_buffer = shuffle_buffer
        self._target = target_of(name, builder, fields)
        self._image_key = image_key(name, builder, self._target)
        self._splits = _find_splits(name, builder)
        counts = {
            key: builder.info.splits[value].num_examples for key, value in self._splits.items()
        }
        super().__init__(self._target.class_names, counts)
        if isinstance(self._target, BoxesTarget):
            self._target.most = self._most_boxes()

    def __str__(self) -> str:
        return self._name

    def records(self, split: str, seed: tf.Tensor | None, start: tf.Tensor) -> tf.data.Dataset:
        self.check_split(split)
        if seed is None:
            return self._read(split, None).skip(start)
        buffer_size = min(self._shuffle_buffer, self.num_examples(split))
        return seeded(
            seed,
            lambda seed: self._read(split, seed).shuffle(
                buffer_size, seed=seed, reshuffle_each_iteration=False
            ),
        ).skip(start)

    def load_mask(self, mask: tf.Tensor) -> tf.Tensor:
        return self._target.load(mask)

    def load_boxes(self, record: Mapping[str, tf.Tensor], shape: tf.Tensor) -> tf.Tensor:
        return relative_boxes.in_pixels(record, shape)

    def _read(self, split: str, seed: tf.Tensor | None) -> tf.data.Dataset:
        features = {self._image_key: True, **self._target.features}
        encoded = (self._image_key, *self._target.encoded)
        return self._examples(split, seed, features, encoded).map(
            lambda example: {
                "image": example[self._image_key],
                "name": example["tfds_id"],
                **self._target.entries(example, split),
            }
        )

    def _examples(
        self,
        split: str,
        seed: tf.Tensor | None,
        features: dict[str, Any],
        encoded: Sequence[str],
    ) -> tf.data.Dataset:
        """The set's own examples, with some of their features."""
        import tensorflow_datasets as tfds

        # In stored order one file follows the other.
        files_at_a_time = 1 if seed is None else FILES_AT_A_TIME
        return self._builder.as_dataset(
            split=self._splits[split],
            shuffle_files=seed is not None,
            decoders=tfds.decode.PartialDecoding(
                features, decoders={key: tfds.decode.SkipDecoding() for key in encoded}
            ),
            read_config=tfds.ReadConfig(
                shuffle_seed=seed,
                shuffle_reshuffle_each_iteration=False,
                add_tfds_id=True,
                try_autocache=False,
                skip_prefetch=True,
                interleave_cycle_length=files_at_a_time,
                num_parallel_calls_for_interleave_files=files_at_a_time,
                num_parallel_calls_for_decode=num_cores(),
            ),
        )

    def _most_boxes(self) -> int:
        """The most boxes of an image; says how many are left out."""
        known = Remembered(Path(self._builder.data_dir))
        found = []
        for split, part in self._splits.items():
            # A prepared set's folder is of one version, and is not written again.
            state = [self.num_examples(split), self._builder.info.dataset_size]
            find = functools.partial(self._survey, split)
            found.append(known.numbers(f"boxes of {part}", state, 2, find))
        known.save()
        most, lost = max(each[0] for each in found), sum(each[1] for each in found)
        self.left_out = relative_boxes.left_out(lost, "without area in the image or of no class")
        if not most:
            raise ValueError(f"{self}: images with boxes are needed. Received: no box.")
        return most

    def _survey(self, split: str) -> list[int]:
        examples = self._examples(split, None, self._target.features, ())
        surveys = examples.map(self._target.survey).with_options(untuned())
        most = lost = 0
        for count, without_area in surveys.as_numpy_iterator():
            most, lost = max(most, int(count)), lost + int(without_area)
        return [most, lost]


def _find_splits(name: str, builder: Any) -> dict[str, str]:
    available = set(builder.info.splits)
    if "train" not in available:
        raise ValueError(
            f"{name}: a set with a 'train' split is needed. Received: {sorted(available)}."
        )
    for split in ("validation", "test"):
        if split in available:
            return {"train": "train", "validation": split}
    return {"train": f"train[:-{HELD_OUT}%]", "validation": f"train[-{HELD_OUT}%:]"}


def open_tfds(
    name: str, *, fields: Sequence[str] = LABEL, shuffle_buffer: int = SHUFFLE_BUFFER
) -> TfdsSource:
    """Opens a tensorflow_datasets set, preparing it (which may download) where it is not yet.

    Args:
        name: `NAME` or `NAME:CONFIG`; tfds's own spelling `NAME/CONFIG:VERSION` works too.
        fields: The targets of the records.
        shuffle_buffer: Records in the shuffle buffer.

    Raises:
        ValueError: If there is no such set or config, or it cannot be prepared here.
    """
    import tensorflow_datasets as tfds

    head, _, config = name.partition(":")
    is_config = config and "/" not in head and not re.match(r"[\d*]+\.", config)
    full_name = f"{head}/{config}" if is_config else name
    try:
        builder = tfds.builder(full_name)
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise ValueError(
            f"A name of a tensorflow_datasets set is needed. Received: {name!r} ({_brief(error)})."
        ) from error
    prepare(builder, f"tfds:{name}")
    return TfdsSource(f"tfds:{name}", builder, fields=fields, shuffle_buffer=shuffle_buffer)


def prepare(builder: Any, name: str) -> None:
    try:
        builder.download_and_prepare()
    except ImportError as error:
        raise ValueError(
            f"{name}: its data needs a package that is not installed: {error}."
        ) from error
    except (AssertionError, OSError) as error:
        raise ValueError(
            f"{name}: the data cannot be prepared in {builder.data_dir}: {_brief(error)}."
        ) from error


def _brief(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
