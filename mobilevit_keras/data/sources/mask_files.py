"""Images whose masks are files, whatever the folders are called."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.decoding import upright_shape
from mobilevit_keras.data.geometry import OUTSIDE
from mobilevit_keras.data.masks import read_mask
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
        self._masks = {printable(image): mask for of in pairs.values() for image, mask in of}

    def load(self, image: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(image)

    def load_mask(self, mask: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(mask)

    def why_unreadable(self, name: str) -> str:
        why = super().why_unreadable(name)
        if why or name not in self._masks:
            return why
        mask = self._masks[name]
        try:
            contents = Path(mask).read_bytes()
        except FileNotFoundError:
            return f"there is no mask {printable(mask)}"
        except OSError as error:
            return f"its mask {printable(mask)} cannot be read: {error.strerror}"
        why = why_unfit(contents, name, len(self.class_names))
        return why and f"{why}: {printable(mask)}"


def why_unfit(contents: bytes, image: str | Path, num_classes: int) -> str:
    """Says in a few words what is wrong with a mask; empty where nothing is.

    Args:
        contents: The bytes of the mask's file.
        image: The image that it is of.
        num_classes: Number of classes.
    """
    try:
        numbers = read_mask(contents)
    except ValueError as error:
        return str(error)
    try:
        height, width = upright_shape(Path(image).read_bytes())
    except (OSError, ValueError):
        # Then it is the image.
        return ""
    if numbers.shape != (height, width):
        return (
            f"its mask has {numbers.shape[1]} x {numbers.shape[0]} pixels, and the image has "
            f"{width} x {height}"
        )
    unknown = sorted(set(np.unique(numbers).tolist()) - {*range(num_classes), OUTSIDE})
    if unknown:
        return f"its mask holds {unknown[0]}, and classes are from 0 to {num_classes - 1}"
    return ""


def numbers_in(masks: Sequence[str]) -> list[int]:
    """The numbers that some masks hold, as far as they can be read."""
    found: set[int] = set()
    for path in masks:
        try:
            found.update(np.unique(read_mask(Path(path).read_bytes())).tolist())
        except (OSError, ValueError):
            continue
    return sorted(found)
