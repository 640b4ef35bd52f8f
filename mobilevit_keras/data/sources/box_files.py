"""Images whose boxes stand in files of annotations, whatever these are called."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.decoding import upright_shape
from mobilevit_keras.data.source import printable
from mobilevit_keras.data.sources.listed_objects import ListedObjects
from mobilevit_keras.data.sources.objects import Objects, clip


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """An image file and what is in it.

    Attributes:
        path: The file; it need not exist, the image then counts as unreadable.
        shape: Height and width of the image that the boxes are of, where they are known.
        objects: What is in it.
        fault: Why the annotation cannot be used, in a few words; empty where it can. The image then
            counts as unreadable.
    """

    path: str
    shape: tuple[int, int] | None
    objects: Objects
    fault: str = ""


class BoxFiles(ListedObjects):
    """A source whose images are files, with annotations in others.

    Args:
        class_names: Names of the classes in index order.
        images: The images of each split.
        fields: The entries that the records have of their objects.

    Raises:
        ValueError: If there is no box to train on.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        images: Mapping[str, Sequence[AnnotatedImage]],
        fields: Sequence[str],
    ):
        columns = {
            split: {
                "name": [os.fsencode(image.path) for image in of],
                # There is no file without a name, so that nobody learns from a faulty one.
                "image": [b"" if image.fault else os.fsencode(image.path) for image in of],
                "size": np.array([image.shape or (0, 0) for image in of], np.int32).reshape(-1, 2),
            }
            for split, of in images.items()
        }
        objects = {split: [image.objects for image in of] for split, of in images.items()}
        self._images = {printable(image.path): image for of in images.values() for image in of}
        super().__init__(class_names, columns, objects, fields)

    def why_no_boxes(self) -> str:
        faults = [f"{path}: {image.fault}" for path, image in self._images.items() if image.fault]
        return ". ".join(part for part in (*faults[:1], self.left_out) if part)

    def load(self, image: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(image)

    def why_unreadable(self, record: Mapping[str, Any]) -> str:
        image = self._images[printable(record["name"])]
        if image.fault:
            return image.fault
        if not os.path.exists(image.path):
            return "there is no such file"
        why = super().why_unreadable(record)
        if why or image.shape is None:
            return why
        try:
            shape = upright_shape(Path(image.path).read_bytes())
        except (OSError, ValueError):
            return ""
        if shape == image.shape:
            return ""
        return (
            f"its boxes are of an image of {image.shape[1]} x {image.shape[0]} pixels, "
            f"and it has {shape[1]} x {shape[0]}"
        )


class ObjectCollector:
    """Collects the objects of an image that can be used.

    Args:
        shape: Height and width of the image, where they are known.
    """

    def __init__(self, shape: tuple[int, int] | None):
        self._shape = shape
        self._rows: list[tuple[Sequence[float], int, int]] = []

    def add(self, box: Sequence[float] | None, label: int | None, ignored: int) -> str:
        """Adds an object, or says why not.

        Args:
            box: Left, top, right and bottom in pixels; None where they are no numbers.
            label: Its class; None where it is none.
            ignored: What an evaluation makes of it.

        Returns:
            Words that follow "boxes"; none where it was added.
        """
        if label is None:
            return "of no known class"
        clipped, reason = clip(box, self._shape)
        if clipped is not None:
            self._rows.append((clipped, label, ignored))
        return reason

    def objects(self) -> Objects:
        """What was collected."""
        return Objects.of(self._rows)


def four_numbers(values: Any) -> tuple[float, ...] | None:
    """What a file has for a box, as floats; None where that is not four numbers."""
    if not isinstance(values, list | tuple) or len(values) != 4:
        return None
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return None
    try:
        numbers = tuple(map(float, values))
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def shape_of(path: str) -> tuple[int, int] | None:
    """Height and width of an image whose annotation does not tell them; None where none can."""
    try:
        return upright_shape(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
