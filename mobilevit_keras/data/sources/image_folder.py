"""A folder of images for each class."""

import collections
import dataclasses
import hashlib
import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from mobilevit_keras.data.decoding import image_extensions, missing_reader
from mobilevit_keras.data.source import SPLITS, Source, permutation, printable

# How people call the folders of a split. `test` is validated on where there is no validation.
_SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation"}
_SPLIT_NAMES |= {"valid": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class _File:
    """An image file: its path, that within its split's folder, and where it really lies."""

    path: str
    relative: str
    real: str
    links: int


class ImageFolder(Source):
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

    def __init__(self, path: str | Path, *, validation_fraction: float = 0.2):
        self.path = Path(path)
        if not 0.0 < validation_fraction < 1.0:
            raise ValueError(
                f"`validation_fraction` must be between 0 and 1. Received: {validation_fraction}."
            )
        if not self.path.is_dir():
            raise FileNotFoundError(f"A folder of images is needed. Received: {self}.")
        listing = _Listing(self.path)
        folders = _split_folders(self, self.path)
        if folders:
            splits = {split: listing.classes(folder) for split, folder in folders.items()}
            _leave_out_copies(splits, listing)
            class_names = tuple(splits["train"])
            unknown = sorted(set(splits["validation"]) - set(class_names))
            if unknown:
                raise ValueError(
                    f"{self}: every class of 'validation' must be in 'train'. Received: {unknown}."
                )
        else:
            classes = {"train": listing.classes(self.path)}
            _leave_out_copies(classes, listing)
            class_names = tuple(classes["train"])
            splits = _hold_out(classes["train"], validation_fraction)
        self.left_out = listing.left_out()
        indices = {name: index for index, name in enumerate(class_names)}
        files, labels = {}, {}
        for split, classes in splits.items():
            files[split] = [os.fsencode(file.path) for found in classes.values() for file in found]
            labels[split] = [indices[name] for name, found in classes.items() for _ in found]
        super().__init__(class_names, {split: len(names) for split, names in files.items()})
        # Eager tensors are passed to dataset functions by reference; a Python list would become a
        # constant inside each graph.
        self._files = {split: tf.constant(names) for split, names in files.items()}
        self._labels = {split: tf.constant(values, tf.int64) for split, values in labels.items()}

    def __str__(self) -> str:
        return f"folder:{printable(self.path)}"

    def records(self, split: str, seed: tf.Tensor | None, start: tf.Tensor) -> tf.data.Dataset:
        self.check_split(split)
        files, labels = self._files[split], self._labels[split]
        if seed is not None:
            length = self.num_examples(split)
            order = tf.numpy_function(
                lambda pair: permutation(pair, length), [seed], tf.int64, stateful=False
            )
            order = tf.ensure_shape(order, (length,))[start:]
            files, labels = tf.gather(files, order), tf.gather(labels, order)
        else:
            files, labels = files[start:], labels[start:]
        return tf.data.Dataset.from_tensor_slices({"image": files, "label": labels, "name": files})

    def load(self, image: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(image)


def _split_folders(source: ImageFolder, path: Path) -> dict[str, Path]:
    """The folders of the two splits; none where the folder's own folders are classes."""
    found: dict[str, list[Path]] = collections.defaultdict(list)
    for entry in sorted(path.iterdir()):
        split = _SPLIT_NAMES.get(entry.name.casefold())
        # A class may be called so too; it holds images and no folders of classes.
        if split is not None and _has_subfolders(entry):
            found[split].append(entry)
    if "train" not in found and "validation" not in found:
        return {}
    if "validation" not in found and "test" in found:
        found["validation"] = found["test"]
    for split in SPLITS:
        names = [printable(entry.name) for entry in found[split]]
        if not names:
            other = next(name for name in SPLITS if name != split)
            raise ValueError(
                f"{source}: a folder with {other!r} of classes also needs {split!r}. "
                f"Received: {sorted(printable(entry.name) for entry in path.iterdir())[:10]}."
            )
        if len(names) > 1:
            raise ValueError(f"{source}: one folder must be {split!r}. Received: {names}.")
    return {split: found[split][0] for split in SPLITS}


def _has_subfolders(path: Path) -> bool:
    return path.is_dir() and any(entry.is_dir() for entry in path.iterdir())


class _Listing:
    """Lists image files, and keeps account of the files that are none."""

    def __init__(self, path: Path):
        self._root = os.path.realpath(path)
        self._extensions = image_extensions()
        self._counts: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, str] = {}

    def classes(self, path: Path) -> dict[str, list[_File]]:
        """The sorted images of each class folder, in the order of sorted class names."""
        with os.scandir(path) as entries:
            names = sorted(e.name for e in entries if e.name[0] != "." and e.is_dir())
        classes = {}
        for name in names:
            real = os.path.realpath(path / name)
            if self._root == real or self._root.startswith(real + os.sep):
                self.note("link(s) to a folder that holds this one", str(path / name))
                continue
            found = self._walk(str(path / name), name, real, int((path / name).is_symlink()), ())
            classes[name] = sorted(found, key=lambda file: file.path)
        if not classes:
            raise ValueError(
                "A folder of images needs a folder for each class. "
                f"Received: {printable(path)}{self._told()}."
            )
        empty = [printable(name) for name, files in classes.items() if not files]
        if empty:
            raise ValueError(
                f"Every class folder must hold images ({', '.join(sorted(self._extensions))}). "
                f"Received: {printable(path)} with nothing in {empty[:10]}{self._told()}."
            )
        return classes

    def note(self, reason: str, path: str) -> None:
        """Counts a file that is left out."""
        self._counts[reason] += 1
        self._examples.setdefault(reason, printable(os.path.relpath(path, self._root)))

    def left_out(self) -> str:
        """One line on all of them; empty where there are none."""
        if not self._counts:
            return ""
        total = sum(self._counts.values())
        parts = [
            f"{count} {reason}, {'such as ' if count > 1 else ''}{self._examples[reason]}"
            for reason, count in self._counts.most_common()
        ]
        return f"{total} {'file' if total == 1 else 'files'} left out: {'; '.join(parts)}"

    def _told(self) -> str:
        return f" ({self.left_out()})" if self._counts else ""

    def _walk(
        self, folder: str, relative: str, real: str, links: int, above: tuple[str, ...]
    ) -> Iterator[_File]:
        """The images under a folder that lies at `real`, `links` links away."""
        if real in above:
            self.note("link(s) to a folder above", folder)
            return
        with os.scandir(folder) as entries:
            visible = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
        for entry in visible:
            # Resolving each path would ask the system for each of its folders.
            is_link = entry.is_symlink()
            place = os.path.realpath(entry.path) if is_link else os.path.join(real, entry.name)
            inside = f"{relative}/{entry.name}"
            if entry.is_dir():
                yield from self._walk(entry.path, inside, place, links + is_link, (*above, real))
                continue
            extension = os.path.splitext(entry.name)[1].lower()
            if extension in self._extensions:
                yield _File(entry.path, inside, place, links + is_link)
            else:
                kind = extension or "without extension"
                self.note(f"{kind} ({missing_reader(extension)})", entry.path)


def _leave_out_copies(splits: dict[str, dict[str, list[_File]]], listing: _Listing) -> None:
    """Keeps one path of each file that several lead to: that with the fewest links on its way."""
    best: dict[str, _File] = {}
    listed = [found for classes in splits.values() for found in classes.values()]
    for file in itertools.chain(*listed):
        other = best.setdefault(file.real, file)
        if file.links < other.links:
            best[file.real] = file
    if len(best) == sum(map(len, listed)):
        return
    for split, classes in splits.items():
        for name, found in list(classes.items()):
            kept = [file for file in found if best[file.real] is file]
            for file in found:
                if best[file.real] is not file:
                    listing.note("link(s) to an image that is there already", file.path)
            classes[name] = kept
        splits[split] = {name: found for name, found in classes.items() if found}


def _hold_out(
    classes: dict[str, list[_File]], fraction: float
) -> dict[str, dict[str, list[_File]]]:
    """Splits every class by the hashes of its images' names."""
    splits: dict[str, dict[str, list[_File]]] = {split: {} for split in SPLITS}
    for name, files in classes.items():
        hashes = {file: _hash(file.relative) for file in files}
        held_out = {file for file in files if hashes[file] < fraction}
        if not held_out:
            held_out = {min(files, key=hashes.get)}
        if len(held_out) == len(files):
            held_out.discard(max(files, key=hashes.get))
        splits["validation"][name] = [file for file in files if file in held_out]
        splits["train"][name] = [file for file in files if file not in held_out]
    return splits


def _hash(name: str) -> float:
    """A number in [0, 1) that a path decides, the same on every system."""
    # One system stores ü as one character, another as u and two dots.
    text = unicodedata.normalize("NFC", name)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
