"""A few validation images beside the model, for checks of exports and for the demonstration."""

import re
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from mobilevit_keras.data import Source, decode_image
from mobilevit_keras.data.source import seed_pair
from mobilevit_keras.data.threads import untuned
from mobilevit_keras.files import atomic_directory

SAMPLES_PER_CLASS = 2
MAXIMUM_SAMPLES = 40


def write_samples(source: Source, directory: str | Path) -> list[Path]:
    """Copies some validation images into `directory`, encoded as they were.

    The first ones of each class, where an image is of one; else the first ones. Those that cannot
    be read are left out: a training names them when it is their turn.

    Args:
        source: Where the images come from.
        directory: The folder, replaced whole; files are named NUMBER_CLASS.EXTENSION, or
            NUMBER.EXTENSION.

    Returns:
        The files' paths.

    Raises:
        OSError: If the folder cannot be written.
    """
    has_label = "label" in source.fields
    per_class = dict.fromkeys(range(len(source.class_names)), 0)
    names = []
    with atomic_directory(directory, unmarked=_earlier_samples) as temporary:
        # A fixed shuffle, because folders store one class after the other.
        records = source.records("validation", seed_pair(0), tf.constant(0, tf.int64))
        for record in records.with_options(untuned()):
            label = int(record["label"]) if has_label else None
            if has_label and per_class[label] == SAMPLES_PER_CLASS:
                continue
            contents = _contents(source, record)
            if contents is None:
                continue
            name = f"{len(names):02d}"
            if has_label:
                per_class[label] += 1
                class_name = source.class_names[label]
                name += "_" + "".join(c if c.isalnum() else "-" for c in class_name)
            name += _extension(contents)
            (temporary / name).write_bytes(contents)
            names.append(name)
            if len(names) == MAXIMUM_SAMPLES or min(per_class.values()) == SAMPLES_PER_CLASS:
                break
    return [Path(directory) / name for name in names]


def _contents(source: Source, record: Mapping[str, tf.Tensor]) -> bytes | None:
    """The bytes of a record's image; None where it cannot be read. Nothing else is opened."""
    try:
        contents = source.load(record["image"])
        decode_image(contents)
    except tf.errors.OpError:
        return None
    return contents.numpy()


def _earlier_samples(directory: Path) -> list[str]:
    """Files that versions without marks wrote."""
    return [path.name for path in directory.iterdir() if re.fullmatch(r"\d\d_.*\.\w+", path.name)]


def _extension(contents: bytes) -> str:
    marks = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp"}
    return next((end for mark, end in marks.items() if contents.startswith(mark)), ".img")
