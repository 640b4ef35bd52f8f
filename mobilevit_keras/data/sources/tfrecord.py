"""TFRecord shards of encoded images."""

import glob
import hashlib
import json
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from mobilevit_keras.data.source import SPLITS, Seed, Source, seeded
from mobilevit_keras.files import atomic_directory, atomic_path

IMAGE_KEY = "image/encoded"
LABEL_KEY = "image/class/label"
NAME_KEY = "image/filename"
CLASS_NAMES_FILE = "labels.txt"
SHUFFLE_BUFFER = 4096

# A record is framed by its length (8 bytes) with a checksum (4), and a checksum of the data (4).
_HEAD, _TAIL = 12, 4


class TFRecordShards(Source):
    """Shards of `tf.train.Example` records.

    Each example holds `image/encoded` (the bytes of a JPEG, PNG, BMP or GIF file),
    `image/class/label` (int64, from 0, a line of `labels.txt`) and, optionally, `image/filename`.
    Files whose names begin with `train` and `validation` are the two splits; `labels.txt`, one
    class name a line, lies beside them.

    Opening reads the framing of every record, not the data: that counts the images and finds a
    file that was cut short. What was counted is remembered until a file's size or time changes. An
    epoch shuffles the files, reads several at a time and shuffles the
    records within a buffer, which bounds the memory.

    Args:
        path: A folder or a glob of files.
        shuffle_buffer: Records in the shuffle buffer.
        files_at_a_time: Files read in turn.

    Raises:
        FileNotFoundError: If the folder, a split's files or `labels.txt` do not exist.
        ValueError: If a file is cut short or is no TFRecord file.
    """

    def __init__(
        self, path: str | Path, *, shuffle_buffer: int = SHUFFLE_BUFFER, files_at_a_time: int = 16
    ):
        self.path = Path(path)
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
        known = _RememberedCounts(Path(files["train"][0]).parent)
        counts = {split: sum(map(known.count, names)) for split, names in files.items()}
        known.save()
        super().__init__(class_names, counts)
        self._files = files

    def __str__(self) -> str:
        return f"tfrecord:{self.path}"

    def records(self, split: str, seed: tf.Tensor | None, start: tf.Tensor) -> tf.data.Dataset:
        self.check_split(split)
        files = self._files[split]
        if seed is None:
            return tf.data.TFRecordDataset(files).skip(start).map(self._parse)

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

        return seeded(seed, shuffled).skip(start).map(self._parse)

    def diagnose(self, error: tf.errors.OpError) -> str | None:
        if isinstance(error, tf.errors.InvalidArgumentError):
            wrong = [key for key in (IMAGE_KEY, LABEL_KEY) if key in error.message]
            if not wrong:
                return None
            return (
                f"Each record needs `{IMAGE_KEY}`, and a `{LABEL_KEY}` from 0 to "
                f"{len(self.class_names) - 1}. Received: {self}, where `{wrong[-1]}` is wrong."
            )
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

    def _parse(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {
            IMAGE_KEY: tf.io.FixedLenFeature((), tf.string),
            LABEL_KEY: tf.io.FixedLenFeature((), tf.int64),
            NAME_KEY: tf.io.FixedLenFeature((), tf.string, default_value="a record without a name"),
        }
        example = tf.io.parse_single_example(record, features)
        label = example[LABEL_KEY]
        count = len(self.class_names)
        valid = tf.debugging.Assert(
            (label >= 0) & (label < count),
            [f"`{LABEL_KEY}` must be one of {count} classes. Received:", label],
        )
        with tf.control_dependencies([valid]):
            label = tf.identity(label)
        return {"image": example[IMAGE_KEY], "label": label, "name": example[NAME_KEY]}


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


class _RememberedCounts:
    """The number of records of a folder's files, so that not every start seeks to every record.

    Args:
        folder: The files' folder. What is known of it lies in Keras's own, not among the data.
    """

    def __init__(self, folder: Path):
        name = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=16).hexdigest()
        home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
        self._path = Path(home) / "mobilevit_keras" / "record_counts" / f"{name}.json"
        self._counts: dict[str, list[int]] = {}
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, list[int]] = known if isinstance(known, dict) else {}

    def count(self, path: str) -> int:
        """Counts a file's records, or remembers how many there were when it was as it is now."""
        state = os.stat(path)
        seen = [state.st_size, state.st_mtime_ns]
        name = os.path.basename(path)
        known = self._known.get(name)
        if not isinstance(known, list) or known[:2] != seen or len(known) != 3:
            known = [*seen, count_records(path)]
        self._counts[name] = known
        return known[2]

    def save(self) -> None:
        """Remembers what was counted, where that can be written."""
        known = self._known | self._counts
        if known == self._known:
            return
        try:
            with atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps(known), encoding="utf-8")
        except OSError:
            return


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
        ValueError: If `num_shards` is not positive.
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
            for number, example in enumerate(examples.as_numpy_iterator()):
                writers[number % count].write(_serialize(example))
            for writer in writers:
                writer.close()


def _earlier_shards(folder: Path) -> list[str]:
    """Files that versions without marks wrote."""
    shards = re.compile(rf"({'|'.join(SPLITS)})-\d{{5}}-of-\d{{5}}")
    names = [path.name for path in folder.iterdir()]
    return [name for name in names if name == CLASS_NAMES_FILE or shards.fullmatch(name)]


def _serialize(example: dict) -> bytes:
    def strings(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        IMAGE_KEY: strings(example["image"]),
        LABEL_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(example["label"])])),
        NAME_KEY: strings(example["name"]),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
