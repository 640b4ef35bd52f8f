"""A folder of images for each class."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.decoding import image_extensions
from mobilevit_keras.data.source import SPLITS, printable
from mobilevit_keras.data.sources.listed import ListedSource
from mobilevit_keras.data.sources.listing import (
    VALIDATION_FRACTION,
    ListedFile,
    Listing,
    check_fraction,
    hold_out,
    leave_out_copies,
    split_folders,
)

Classes = dict[str, list[ListedFile]]


class ImageFolder(ListedSource):
    """Images in one folder for each class: `PATH/CLASS/…/image.jpg`.

    `PATH/train/CLASS` and `PATH/validation/CLASS`, where both exist, are the two splits; `val`,
    `valid` and, without these, `test` stand for `validation`, in capitals or not. Without them a
    part of each class is held out: an image's own name decides (a hash of its path from here), so
    that neither a seed nor images that come or go change the side that it is on. Only where a class
    would have nothing to validate on, the image with the smallest hash is held out, and where
    it would have nothing to train on, the one with the largest is not.

    Class indices follow the sorted folder names. Files are told by extension: those of the formats
    that can be read. `left_out` says what is not; hidden files do not count. A file that several
    links lead to is one image. The file names are listed once, here; a file that vanishes later
    counts as unreadable.

    Args:
        path: The folder.
        validation_fraction: Part of the images that is held out, where there is no `validation`
            folder; at least one image of each class that has two or more.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two classes, a class or split without images, or
            several folders that may be one split.
    """

    def __init__(self, path: str | Path, *, validation_fraction: float = VALIDATION_FRACTION):
        self.path = Path(path)
        check_fraction(validation_fraction)
        if not self.path.is_dir():
            raise FileNotFoundError(f"A folder of images is needed. Received: {self}.")
        listing = Listing(self.path)
        folders = split_folders(self, self.path, _has_subfolders, holds="classes")
        if folders:
            splits = {split: _classes(listing, folder) for split, folder in folders.items()}
            splits = _without_copies(splits, listing)
            unknown = sorted(set(splits["validation"]) - set(splits["train"]))
            if unknown:
                raise ValueError(
                    f"{self}: every class of 'validation' must be in 'train'. Received: {unknown}."
                )
            class_names = tuple(splits["train"])
        else:
            classes = {"all": _classes(listing, self.path)}
            classes = _without_copies(classes, listing)["all"]
            class_names = tuple(classes)
            splits = _hold_out(classes, validation_fraction)
        self.left_out = str(listing.left_out)
        indices = {name: index for index, name in enumerate(class_names)}
        columns = {}
        for split, classes in splits.items():
            files = [os.fsencode(file.path) for found in classes.values() for file in found]
            labels = [indices[name] for name, found in classes.items() for _ in found]
            columns[split] = {"name": files, "label": np.array(labels, np.int64)}
        super().__init__(class_names, columns)

    def __str__(self) -> str:
        return f"folder:{printable(self.path)}"

    def load(self, image: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(image)


def _has_subfolders(path: Path) -> bool:
    """Whether a folder holds classes; a class may be called as a split is, and holds images."""
    return path.is_dir() and any(entry.is_dir() for entry in path.iterdir())


def _classes(listing: Listing, path: Path) -> Classes:
    """The sorted images of each class folder, in the order of sorted class names."""
    extensions = image_extensions()
    classes = {
        name: listing.files(path / name, extensions, inside=name) for name in listing.folders(path)
    }
    if not classes:
        raise ValueError(
            "A folder of images needs a folder for each class. "
            f"Received: {printable(path)}{listing.left_out.told()}."
        )
    empty = [printable(name) for name, files in classes.items() if not files]
    if empty:
        raise ValueError(
            f"Every class folder must hold images ({', '.join(extensions)}). "
            f"Received: {printable(path)} with nothing in {empty[:10]}{listing.left_out.told()}."
        )
    return classes


def _without_copies(splits: dict[str, Classes], listing: Listing) -> dict[str, Classes]:
    """The same classes with each file once; those that then have none are gone."""
    groups = [files for classes in splits.values() for files in classes.values()]
    kept = iter(leave_out_copies(groups, listing))
    return {
        split: {name: files for name in classes if (files := next(kept))}
        for split, classes in splits.items()
    }


def _hold_out(classes: Classes, fraction: float) -> dict[str, Classes]:
    """Splits every class by the hashes of its images' names."""
    splits: dict[str, Classes] = {split: {} for split in SPLITS}
    for name, files in classes.items():
        for split, part in hold_out(files, lambda file: file.relative, fraction).items():
            splits[split][name] = part
    return splits
