"""What lies in folders of images: files, split folders, parts held out, and what is left out."""

import collections
import dataclasses
import hashlib
import itertools
import os
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from mobilevit_keras.data.decoding import missing_reader
from mobilevit_keras.data.source import SPLITS, Source, printable

# How people call the folders of a split. `test` is validated on where there is no validation.
SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation"}
SPLIT_NAMES |= {"valid": "validation", "test": "test"}

VALIDATION_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class ListedFile:
    """An image file: its path, that within its split's folder, and where it really lies."""

    path: str
    relative: str
    real: str
    links: int


class LeftOut:
    """Keeps account of what is not used, and why.

    Args:
        one: What one of them is called.
        several: What several of them are called.
    """

    def __init__(self, one: str = "file", several: str = "files"):
        self._one, self._several = one, several
        self._counts: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, str] = {}

    def note(self, reason: str, example: str) -> None:
        """Counts one that is left out."""
        self._counts[reason] += 1
        self._examples.setdefault(reason, printable(example))

    def __str__(self) -> str:
        """One line on all of them; empty where there are none."""
        if not self._counts:
            return ""
        total = sum(self._counts.values())
        parts = [
            f"{count} {reason}, {'such as ' if count > 1 else ''}{self._examples[reason]}"
            for reason, count in self._counts.most_common()
        ]
        return f"{total} {self._one if total == 1 else self._several} left out: {'; '.join(parts)}"

    def told(self) -> str:
        """The same in brackets, to stand at the end of a message."""
        return f" ({self})" if self._counts else ""


class Listing:
    """Lists files of certain kinds, and keeps account of the others.

    Args:
        path: The folder that all of them lie in.
    """

    def __init__(self, path: str | Path):
        self._root = os.path.realpath(path)
        self.left_out = LeftOut()

    def note(self, reason: str, path: str | Path) -> None:
        """Counts a file that is left out."""
        self.left_out.note(reason, os.path.relpath(path, self._root))

    def folders(self, path: Path) -> list[str]:
        """The sorted names of a folder's visible folders, without links to those that hold it."""
        with os.scandir(path) as entries:
            names = sorted(e.name for e in entries if e.name[0] != "." and e.is_dir())
        found = []
        for name in names:
            real = os.path.realpath(path / name)
            if self._root == real or self._root.startswith(real + os.sep):
                self.note("link(s) to a folder that holds this one", path / name)
            else:
                found.append(name)
        return found

    def files(
        self,
        folder: Path,
        extensions: Collection[str],
        *,
        inside: str = "",
        why_not: Callable[[str], str] = missing_reader,
    ) -> list[ListedFile]:
        """The sorted files under a folder.

        Args:
            folder: The folder.
            extensions: Those of the files to list, in small letters.
            inside: The folder's place within that of its split.
            why_not: Says in a few words why files of another extension are none of these.
        """
        links = int(folder.is_symlink())
        found = []
        for file in self._walk(str(folder), inside, os.path.realpath(folder), links, ()):
            extension = os.path.splitext(file.path)[1].lower()
            if extension in extensions:
                found.append(file)
            else:
                kind = extension or "without extension"
                self.note(f"{kind} ({why_not(extension)})", file.path)
        return sorted(found, key=lambda file: file.path)

    def _walk(
        self, folder: str, inside: str, real: str, links: int, above: tuple[str, ...]
    ) -> Iterator[ListedFile]:
        """All files under a folder that lies at `real`, `links` links away."""
        if real in above:
            self.note("link(s) to a folder above", folder)
            return
        with os.scandir(folder) as entries:
            visible = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
        for entry in visible:
            # Resolving each path would ask the system for each of its folders.
            is_link = entry.is_symlink()
            place = os.path.realpath(entry.path) if is_link else os.path.join(real, entry.name)
            relative = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir():
                yield from self._walk(entry.path, relative, place, links + is_link, (*above, real))
            else:
                yield ListedFile(entry.path, relative, place, links + is_link)


def split_folders(
    source: Source, path: Path, is_split: Callable[[Path], bool], holds: str = "images"
) -> dict[str, Path]:
    """The folders of the two splits; none where the folder has no such folders.

    Args:
        source: For messages.
        path: The folder that they lie in.
        is_split: Tells them from other folders of the same names.
        holds: What they hold.

    Raises:
        ValueError: If there is only one of them, or there are several that may be one.
    """
    found: dict[str, list[Path]] = collections.defaultdict(list)
    for entry in sorted(path.iterdir()):
        split = SPLIT_NAMES.get(entry.name.casefold())
        if split is not None and is_split(entry):
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
                f"{source}: a folder with {other!r} of {holds} also needs {split!r}. "
                f"Received: {sorted(printable(entry.name) for entry in path.iterdir())[:10]}."
            )
        if len(names) > 1:
            raise ValueError(f"{source}: one folder must be {split!r}. Received: {names}.")
    return {split: found[split][0] for split in SPLITS}


def leave_out_copies(
    groups: Sequence[Sequence[ListedFile]], listing: Listing
) -> list[list[ListedFile]]:
    """Keeps one path of each file that several lead to: that with the fewest links on its way.

    Args:
        groups: The files of each split or class; of equals the first one stays.
        listing: Keeps account of the others.
    """
    best: dict[str, ListedFile] = {}
    for file in itertools.chain(*groups):
        other = best.setdefault(file.real, file)
        if file.links < other.links:
            best[file.real] = file
    kept = []
    for group in groups:
        kept.append([file for file in group if best[file.real] is file])
        for file in group:
            if best[file.real] is not file:
                listing.note("link(s) to an image that is there already", file.path)
    return kept


def check_fraction(fraction: float) -> None:
    """Raises ValueError unless `hold_out` can hold out such a part."""
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"`validation_fraction` must be between 0 and 1. Received: {fraction}.")


def hold_out(
    items: Sequence[Any], name: Callable[[Any], str], fraction: float
) -> dict[str, list[Any]]:
    """Splits images by the hashes of their names.

    An image's own name decides, so that neither a seed nor images that come or go change the side
    that it is on. Only where there would be nothing to validate on, the one with the smallest hash
    is held out, and where there would be nothing to train on, the one with the largest is not.

    Args:
        items: The images.
        name: Returns an image's name: its path from the folder of all, with slashes.
        fraction: Part of the images that is held out.

    Returns:
        The images of each split, in their order.
    """
    hashes = [_hash(name(item)) for item in items]
    held_out = {index for index, value in enumerate(hashes) if value < fraction}
    if items and not held_out:
        held_out = {min(range(len(items)), key=hashes.__getitem__)}
    if items and len(held_out) == len(items):
        held_out.discard(max(range(len(items)), key=hashes.__getitem__))
    return {
        "train": [item for index, item in enumerate(items) if index not in held_out],
        "validation": [item for index, item in enumerate(items) if index in held_out],
    }


def _hash(name: str) -> float:
    """A number in [0, 1) that a path decides, the same on every system."""
    # One system stores ü as one character, another as u and two dots.
    text = unicodedata.normalize("NFC", name)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
