"""Image classification sets of tensorflow_datasets."""

from typing import Any

import tensorflow as tf

from mobilevit_keras.data.source import Source, seeded
from mobilevit_keras.data.threads import num_cores

SHUFFLE_BUFFER = 4096
FILES_AT_A_TIME = 16
HELD_OUT = 20  # percent of the images, where a set has neither a validation nor a test split


class TfdsSource(Source):
    """A prepared tensorflow_datasets builder with one image and one class label.

    `validation` is the set's split of that name, else `test`, else the last fifth of `train`.
    Images stay encoded as they are stored. The order of an epoch comes from shuffling the files and
    then the records within a buffer; memory is bounded by that buffer (4,096 encoded images).

    Args:
        name: The string that names the source.
        builder: A `tfds.core.DatasetBuilder` whose data is prepared.
        shuffle_buffer: Records in the shuffle buffer.

    Raises:
        ValueError: If the set has no image or no class label, or no training split.
    """

    def __init__(self, name: str, builder: Any, *, shuffle_buffer: int = SHUFFLE_BUFFER):
        self._name = name
        self._builder = builder
        self._shuffle_buffer = shuffle_buffer
        self._image_key, self._label_key = _find_keys(name, builder)
        self._splits = _find_splits(name, builder)
        counts = {
            key: builder.info.splits[value].num_examples for key, value in self._splits.items()
        }
        super().__init__(builder.info.features[self._label_key].names, counts)

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

    def _read(self, split: str, seed: tf.Tensor | None) -> tf.data.Dataset:
        import tensorflow_datasets as tfds

        # In stored order one file follows the other.
        files_at_a_time = 1 if seed is None else FILES_AT_A_TIME
        records = self._builder.as_dataset(
            split=self._splits[split],
            shuffle_files=seed is not None,
            decoders=tfds.decode.PartialDecoding(
                {self._image_key: True, self._label_key: True},
                decoders={self._image_key: tfds.decode.SkipDecoding()},
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
        return records.map(
            lambda example: {
                "image": example[self._image_key],
                "label": tf.cast(example[self._label_key], tf.int64),
                "name": example["tfds_id"],
            }
        )


def _find_keys(name: str, builder: Any) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = {}
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        # Not isinstance: boxes, videos and masks derive from these or contain them.
        keys[kind] = [key for key, value in features.items() if type(value) is kind]
    supervised = builder.info.supervised_keys or ()
    found = []
    for kind, candidates in keys.items():
        preferred = [key for key in candidates if key in supervised] or candidates
        if len(preferred) != 1:
            raise ValueError(
                f"{name}: a set with one image and one class label is needed. "
                f"Received: {kind.__name__} features {candidates}."
            )
        found.append(preferred[0])
    return found[0], found[1]


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


def open_tfds(name: str, *, shuffle_buffer: int = SHUFFLE_BUFFER) -> TfdsSource:
    """Opens a tensorflow_datasets set, preparing it (which may download) where it is not yet.

    Args:
        name: `NAME` or `NAME:CONFIG`; tfds's own spelling `NAME/CONFIG:VERSION` works too.
        shuffle_buffer: Records in the shuffle buffer.

    Raises:
        ValueError: If there is no such set or config, or it cannot be prepared here.
    """
    import tensorflow_datasets as tfds

    head, _, config = name.partition(":")
    full_name = f"{head}/{config}" if config and "/" not in head and config[0].isalpha() else name
    try:
        builder = tfds.builder(full_name)
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise ValueError(
            f"A name of a tensorflow_datasets set is needed. Received: {name!r} ({_brief(error)})."
        ) from error
    prepare(builder, f"tfds:{name}")
    return TfdsSource(f"tfds:{name}", builder, shuffle_buffer=shuffle_buffer)


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
