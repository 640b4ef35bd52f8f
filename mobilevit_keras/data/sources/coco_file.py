"""COCO's JSON files of boxes, read and checked."""

import collections
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobilevit_keras.data.source import printable
from mobilevit_keras.data.sources.box_files import (
    AnnotatedImage,
    ObjectCollector,
    four_numbers,
    shape_of,
)
from mobilevit_keras.data.sources.listing import LeftOut
from mobilevit_keras.data.sources.objects import CROWD, PLAIN

_PARTS = ("images", "annotations", "categories")


class CocoFile:
    """A JSON file with images, annotations and categories.

    Args:
        path: The file.
        left_out: Keeps account of images that it names, but not as they must be.

    Attributes:
        path: The file.
        names: Names of the categories, in the order of their numbers.
        file_names: Names of the images' files.

    Raises:
        ValueError: If it is cut short or otherwise no JSON, has not all parts, or a category has no
            number and name.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, left_out: LeftOut):
        self.path = path
        contents = self._read()
        self._categories = self._named(contents["categories"])
        self.names = list(self._categories.values())
        self._images: dict[int | str, dict] = {}
        self.file_names: list[str] = []
        seen: set[str] = set()
        for entry in contents["images"]:
            key, name = _key(entry, "id"), _text(entry, "file_name")
            if key is None or name is None or not _may_be_a_file(name):
                left_out.note("image(s) without an id and a file_name", _short(entry))
            elif key in self._images or name in seen:
                left_out.note("image(s) that are listed already", name)
            else:
                seen.add(name)
                self.file_names.append(name)
                self._images[key] = entry
        self._annotations = contents["annotations"]

    def images(
        self, folder: Path, class_names: Sequence[str], left_out: LeftOut
    ) -> list[AnnotatedImage]:
        """The images with what is in them.

        Args:
            folder: The folder of the files.
            class_names: Names of the classes in index order.
            left_out: Keeps account of boxes that are not used.
        """
        indices = {name: index for index, name in enumerate(class_names)}
        labels = {key: indices[name] for key, name in self._categories.items()}
        annotations = collections.defaultdict(list)
        for annotation in self._annotations:
            key = _key(annotation, "image_id")
            if key in self._images:
                annotations[key].append(annotation)
            else:
                left_out.note("of an image that is not listed", _short(annotation))
        images = []
        for key, entry in self._images.items():
            path = os.path.join(folder, entry["file_name"])
            shape = _shape(entry) or shape_of(path)
            collector = ObjectCollector(shape)
            for annotation in annotations[key]:
                reason = collector.add(
                    _corners(annotation.get("bbox")),
                    labels.get(_key(annotation, "category_id")),
                    CROWD if annotation.get("iscrowd") in (1, "1") else PLAIN,
                )
                if reason:
                    left_out.note(reason, f"{entry['file_name']}: {_short(annotation)}")
            images.append(AnnotatedImage(path, shape, collector.objects()))
        return images

    def _read(self) -> dict[str, list]:
        try:
            contents = json.loads(self.path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"COCO's annotations must be a whole JSON file. Received: {printable(self.path)} "
                f"({error})."
            ) from error
        if not isinstance(contents, dict):
            contents = {}
        lacking = [part for part in _PARTS if not isinstance(contents.get(part), list)]
        if lacking:
            raise ValueError(
                f"COCO's annotations must have lists of {', '.join(_PARTS)}. "
                f"Received: {printable(self.path)}, without {', '.join(lacking)}."
            )
        return contents

    def _named(self, categories: list) -> dict[int | str, str]:
        named: dict[int | str, str] = {}
        for category in categories:
            key, name = _key(category, "id"), _text(category, "name")
            if key is None or name is None or key in named:
                raise ValueError(
                    "Each category must have an id of its own and a name. "
                    f"Received: {printable(self.path)} with {_short(category)}."
                )
            named[key] = name
        # Numbers before texts, which no number can be compared with.
        order = sorted(named, key=lambda key: (isinstance(key, str), key))
        return {key: named[key] for key in order}


def _key(entry: Any, name: str) -> int | str | None:
    """What an entry is, or refers to another, by; None where it is nothing of the kind."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _text(entry: Any, name: str) -> str | None:
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, str) and value and "\0" not in value else None


def _shape(entry: dict) -> tuple[int, int] | None:
    height, width = _key(entry, "height"), _key(entry, "width")
    if all(isinstance(side, int) and 0 < side < 2**31 for side in (height, width)):
        return height, width
    return None


def _may_be_a_file(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _corners(box: Any) -> tuple[float, ...] | None:
    """Left, top, width and height as left, top, right and bottom."""
    numbers = four_numbers(box)
    if numbers is None:
        return None
    left, top, width, height = numbers
    return left, top, left + width, top + height


def _short(entry: Any) -> str:
    """An entry as a message shows it: what it is known by, and its box."""
    if isinstance(entry, dict):
        entry = {key: entry[key] for key in ("id", "image_id", "name", "bbox") if key in entry}
    text = json.dumps(entry, ensure_ascii=True)
    return text if len(text) <= 100 else f"{text[:100]}…"
