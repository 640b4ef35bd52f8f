"""Images whose masks are files, whatever the folders are called."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.masks import read_mask, why_unfit
from mobilevit_keras.data.source import printable
from mobilevit_keras.data.sources.listed import ListedSource
from mobilevit_keras.source_kinds import MASK

MASK_EXTENSION = ".png"


class MaskFiles(ListedSource):
    """A source whose images and masks are files.

    Args:
        class_names: Names of the classes in index order.
        pairs: Paths of an image and its mask, for each image of each split. A mask need not exist:
            its image then counts as unreadable.
    """

    fields = MASK

    def __init__(self, class_names: Sequence[str], pairs: Mapping[str, Sequence[tuple[str, str]]]):
        columns = {
            split: {
                "name": [os.fsencode(image) for image, _ in of],
                "mask": [os.fsencode(mask) for _, mask in of],
            }
            for split, of in pairs.items()
        }
        super().__init__(class_names, columns)

    def load(self, image: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(image)

    def load_mask(self, mask: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(mask)

    def why_unfit(self, mask: bytes, image: bytes) -> str:
        if not os.path.exists(mask):
            return f"there is no mask {printable(mask)}"
        try:
            contents = Path(os.fsdecode(mask)).read_bytes()
        except OSError as error:
            return f"its mask {printable(mask)} cannot be read: {error.strerror}"
        why = why_unfit(contents, image, len(self.class_names))
        return why and f"{why}: {printable(mask)}"


def numbers_in(masks: Sequence[str]) -> list[int]:
    """The numbers that some masks hold, as far as they can be read."""
    found: set[int] = set()
    for path in masks:
        try:
            found.update(np.unique(read_mask(Path(path).read_bytes())).tolist())
        except (OSError, ValueError):
            continue
    return sorted(found)
