"""TFRecord shards of encoded images."""

import glob
import itertools
import os
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from mobilevit_keras.data.skipped import SkippedImages, clear_errors
from mobilevit_keras.data.source import SPLITS, Seed, Source, seeded
from mobilevit_keras.data.sources import relative_boxes
from mobilevit_keras.data.sources.remembered import Remembered, state_of
from mobilevit_keras.data.sources.tfrecord_examples import ExampleReader, survey, write_example
from mobilevit_keras.data.threads import num_cores, untuned
from mobilevit_keras.files import atomic_directory
from mobilevit_keras.source_kinds import LABEL

CLASS_NAMES_FILE = "labels.txt"
SHUFFLE_BUFFER = 4096

# A record is framed by its length (8 bytes) with a checksum (4), and a checksum of the data (4).
_HEAD, _TAIL = 12, 4


class TFRecordShards(Source):
    """Shards of `tf.train.Example` records.

    Each example holds `image/encoded` (the bytes of an image file), optionally `image/filename`,
    and a target of the image:

    - `image/class/label`, int64, from 0, a line of `labels.txt`;
    - or `image/segmentation/class/encoded`, the bytes of a PNG file of class numbers;
    - or `image/object/bbox/xmin`, `ymin`, `xmax` and `ymax`, floats from 0 to 1, and
      `image/object/class/label`, int64, from 1, which the first line of `labels.txt` names; with
      them perhaps `image/object/difficult` and `image/object/is_crowd`, int64, 0 or 1.

    Files whose names begin with `train` and `validation` are the two splits; `labels.txt`, one
    class name a line, lies beside them.

    Opening reads the framing of every record, not the data: that counts the images and finds a
    file that was cut short. Only boxes are looked at, to know how many an image has at most. What
    was found is remembered until a file's size or times change; a pass that meets more records or
    fewer is an error. An epoch shuffles the files, reads several at a time and shuffles the records
    within a buffer, which bounds the memory. Of several workers each reads all records, so that all
    know the order.

    Args:
        path: A folder or a glob of files.
        fields: The targets of the records.
        shuffle_buffer: Records in the shuffle buffer.
        files_at_a_time: Files read in turn.

    Raises:
        FileNotFoundError: If the folder, a split's files or `labels.txt` do not exist.
        ValueError: If a file is cut short or is no TFRecord file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fields: Sequence[str] = LABEL,
        shuffle_buffer: int = SHUFFLE_BUFFER,
        files_at_a_time: int = 16,
    ):
        self.path = Path(path)
        self.fields = tuple(fields)
        self._shuffle_buffer = shuffle_buffer
        self._files_at_a_time = files_at_a_time
        pattern = str(self.path / "*") if self.path.is_dir() else str(self.path)
        found = sorted(file for file in glob.glob(pattern) if os.path.isfile(file))
        files = {
            split: [file for file in found if os.path.basename(file).startswith(split)]
            for split in SPLITS
        }
        for split, names in files.items():
            if not names:
                raise FileNotFoundError(
                    f"TFRecord shards need files whose names begin with {split!r}. "
                    f"Received: {pattern}, which matches {len(found)} files."
                )
        class_names = _read_class_names(Path(files["train"][0]).parent / CLASS_NAMES_FILE)
        known = self._known = Remembered(Path(files["train"][0]).parent)
        counts = {
            split: sum(_count(known, name) for name in names) for split, names in files.items()
        }
        self._files = files
        self._reader = ExampleReader(self.fields, len(class_names))
        if "boxes" in self.fields:
            self._reader.most = self._most_boxes(known)
        known.save()
        super().__init__(class_names, counts)

    def __str__(self) -> str:
        return f"tfrecord:{self.path}"

    def records(self, split: str, seed: tf.Tensor | None, start: tf.Tensor) -> tf.data.Dataset:
        self.check_split(split)
        files = self._files[split]

        def read(serialized):
            return self._reader.read(serialized, split)

        # Batches are planned by this number: others would leave images out, or end early.
        counted = tf.data.experimental.assert_cardinality(self.num_examples(split))
        if seed is None:
            return tf.data.TFRecordDataset(files).apply(counted).skip(start).map(read)

        def shuffled(seed):
            records = (
                tf.data.Dataset.from_tensor_slices(files)
                .shuffle(len(files), seed=seed, reshuffle_each_iteration=False)
                .interleave(
                    tf.data.TFRecordDataset,
                    cycle_length=self._files_at_a_time,
                    block_length=16,
                    num_parallel_calls=self._files_at_a_time,
                    deterministic=True,
                )
            )
            buffer_size = min(self._shuffle_buffer, self.num_examples(split))
            return records.shuffle(buffer_size, seed=seed, reshuffle_each_iteration=False)

        return seeded(seed, shuffled).apply(counted).skip(start).map(read)

    def load_boxes(self, record: Mapping[str, tf.Tensor], shape: tf.Tensor) -> tf.Tensor:
        return relative_boxes.in_pixels(record, shape)

    def diagnose(self, error: tf.errors.OpError) -> str | None:
        if isinstance(error, tf.errors.InvalidArgumentError):
            wrong = self._reader.wrong(error.message)
            if wrong is None:
                return None
            return (
                f"Each record needs {self._reader.needs()}. "
                f"Received: {self}, where `{wrong}` is wrong."
            )
        if isinstance(error, tf.errors.FailedPreconditionError):
            # Where the memory was wrong it would be so next time.
            self._known.forget()
        if not isinstance(error, tf.errors.DataLossError):
            return super().diagnose(error)
        for files in self._files.values():
            for file in files:
                try:
                    for _ in tf.data.TFRecordDataset(file):
                        pass
                except tf.errors.OpError:
                    return f"A TFRecord file must be whole. Received: {file}, which is damaged."
        return super().diagnose(error)

    def _most_boxes(self, known: Remembered) -> int:
        """The most boxes of an image; says how many are left out."""
        found = []
        for name in itertools.chain(*self._files.values()):
            key = f"boxes of {os.path.basename(name)}"
            with clear_errors(self, SkippedImages()):
                numbers = known.numbers(key, state_of(name), 2, lambda name=name: _boxes_in(name))
            found.append(numbers)
        most, lost = max(each[0] for each in found), sum(each[1] for each in found)
        self.left_out = relative_boxes.left_out(lost)
        if not most:
            raise ValueError(f"{self}: images with boxes are needed. Received: no box.")
        return most


def _count(known: Remembered, path: str) -> int:
    (count,) = known.numbers(
        os.path.basename(path), state_of(path), 1, lambda: [count_records(path)]
    )
    return count


def _boxes_in(path: str) -> list[int]:
    """The most boxes of an image of a file, and how many of all boxes are without area."""
    most = lost = 0
    surveys = tf.data.TFRecordDataset(path).map(survey, num_parallel_calls=num_cores())
    for count, without_area in surveys.with_options(untuned()).as_numpy_iterator():
        most, lost = max(most, int(count)), lost + int(without_area)
    return [most, lost]


def count_records(path: str | Path) -> int:
    """Counts the records of a TFRecord file by their framing alone.

    Raises:
        ValueError: If the file is cut short, compressed, or no TFRecord file.
    """
    size = os.path.getsize(path)
    count = position = 0
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(_HEAD)
            end = position + _HEAD + _TAIL
            if len(head) == _HEAD:
                end += struct.unpack("<Q", head[:8])[0]
            if len(head) < _HEAD or end > size:
                raise ValueError(
                    "A TFRecord file must be whole and uncompressed. "
                    f"Received: {path}, cut short in record {count} at byte {position} of {size}."
                )
            position, count = end, count + 1
    return count


def _read_class_names(path: Path) -> Sequence[str]:
    if not path.is_file():
        raise FileNotFoundError(
            f"TFRecord shards need a {CLASS_NAMES_FILE} beside them. Received: {path}."
        )
    return path.read_text(encoding="utf-8").splitlines()


def write_shards(
    source: Source, path: str | Path, num_shards: int, *, shuffle_seed: Seed = 0
) -> None:
    """Writes a source's images, still encoded, as TFRecord shards that `TFRecordShards` reads.

    Args:
        source: Where the images come from.
        path: Folder to write; replaced as a whole.
        num_shards: Files of the training split; the validation split has one for as many images.
        shuffle_seed: Seed of the order in which images are dealt out to the shards.

    Raises:
        ValueError: If `num_shards` is not positive, or a file of an image or a mask is missing.
        OSError: If the folder cannot be written.
    """
    if num_shards < 1:
        raise ValueError(f"`num_shards` must be positive. Received: {num_shards}.")
    size = -(-source.num_examples("train") // num_shards)
    with atomic_directory(path, unmarked=_earlier_shards) as folder:
        text = "".join(f"{name}\n" for name in source.class_names)
        (folder / CLASS_NAMES_FILE).write_text(text, encoding="utf-8")
        for split in SPLITS:
            count = -(-source.num_examples(split) // size)
            writers = [
                tf.io.TFRecordWriter(str(folder / f"{split}-{index:05d}-of-{count:05d}"))
                for index in range(count)
            ]
            examples = source.examples(split, shuffle_seed=shuffle_seed)
            with clear_errors(source, SkippedImages()):
                for number, example in enumerate(examples.as_numpy_iterator()):
                    writers[number % count].write(write_example(example))
            for writer in writers:
                writer.close()


def _earlier_shards(folder: Path) -> list[str]:
    """Files that versions without marks wrote."""
    shards = re.compile(rf"({'|'.join(SPLITS)})-\d{{5}}-of-\d{{5}}")
    names = [path.name for path in folder.iterdir()]
    return [name for name in names if name == CLASS_NAMES_FILE or shards.fullmatch(name)]
