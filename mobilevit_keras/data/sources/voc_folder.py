"""The folders of PASCAL VOC: which images there are, and which of them are trained on."""

import dataclasses
import os
from pathlib import Path

from mobilevit_keras.data.decoding import image_extensions
from mobilevit_keras.data.source import SPLITS, Source, printable
from mobilevit_keras.data.sources.listing import SPLIT_NAMES, Listing, hold_out

IMAGES, IMAGE_SETS = "JPEGImages", "ImageSets"

CLASS_NAMES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""VOC's own, in its order."""


@dataclasses.dataclass(frozen=True)
class VocFolder:
    """What lies in such folders.

    Attributes:
        root: The folder that holds them.
        names: Names of the images of each split.
        listing: Keeps account of what is left out.
    """

    root: Path
    names: dict[str, list[str]]
    listing: Listing
    _images: dict[str, str]
    _targets: dict[str, str]
    _places: tuple[str, str]

    def image(self, name: str) -> str:
        """The path of an image, whether it is there or not."""
        return self._images.get(name, str(self.root / IMAGES / name) + ".jpg")

    def target(self, name: str) -> str:
        """The path of what is known of an image, whether it is there or not."""
        folder, extension = self._places
        return self._targets.get(name, str(self.root / folder / name) + extension)


def open_voc_folder(
    source: Source, path: Path, targets: tuple[str, str], lists: str, fraction: float
) -> VocFolder:
    """Lists the folders of PASCAL VOC.

    Args:
        source: For messages.
        path: The folder that holds them; or one that holds a single such folder, `VOC2012` or
            `VOCdevkit/VOC2012`.
        targets: The folder of what is known of the images, and the extension of its files.
        lists: The folder in `ImageSets` whose lists of names say what is trained on: `train.txt`
            and `val.txt`, else `trainval.txt` or `train.txt` and `test.txt`. Where there is one
            of the first ones alone, or no list, a part of the images is held out by a hash of each
            one's name.
        fraction: That part.

    Raises:
        FileNotFoundError: If there are no such folders.
        ValueError: If there are several, or no image is in a list.
    """
    root = _root(source, path, (IMAGES, targets[0]))
    listing = Listing(root)
    images = _by_name(listing, root / IMAGES, image_extensions(), "no image")
    known = _by_name(listing, root / targets[0], (targets[1],), f"no {targets[1]} file")
    names = _listed(source, root / IMAGE_SETS / lists, listing)
    if not names:
        both = [name for name in images if name in known]
        for name in sorted(known.keys() - images.keys()):
            listing.note(f"of {targets[0]} without an image", known[name])
        for name in sorted(images.keys() - known.keys()):
            listing.note(f"image(s) without a file in {targets[0]}", images[name])
        names = {"all": both}
    else:
        used = {name for of in names.values() for name in of}
        for name in sorted(images.keys() - used):
            listing.note("image(s) of no list", images[name])
    if not any(name in images for of in names.values() for name in of):
        raise ValueError(
            f"{source}: {IMAGES} must hold the images of {IMAGE_SETS}/{lists}, or of the files in "
            f"{targets[0]}. Received: none of them{listing.left_out.told()}."
        )
    if "all" in names:
        names = hold_out(names["all"], str, fraction)
    return VocFolder(root, names, listing, images, known, targets)


def _root(source: Source, path: Path, folders: tuple[str, ...]) -> Path:
    if not path.is_dir():
        raise FileNotFoundError(f"A folder such as VOC2012 is needed. Received: {source}.")
    candidates = [path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*"))]
    found = [root for root in candidates if all((root / name).is_dir() for name in folders)]
    if not found:
        raise FileNotFoundError(
            f"A folder that holds {' and '.join(folders)} is needed. Received: {source}."
        )
    if len(found) > 1 and found[0] != path:
        raise ValueError(
            f"One such folder is needed. Received: {source}, which holds "
            f"{', '.join(printable(root.relative_to(path)) for root in found)}."
        )
    return found[0]


def _by_name(
    listing: Listing, folder: Path, extensions: tuple[str, ...], why_not: str
) -> dict[str, str]:
    """The files of a folder by their names without extension."""
    files = listing.files(folder, extensions, why_not=lambda _: why_not)
    return {os.path.splitext(file.relative)[0]: file.path for file in files}


def _listed(source: Source, folder: Path, listing: Listing) -> dict[str, list[str]]:
    """The names of the lists of each split, or of all; none where there is no list."""
    lists = {}
    for path in sorted(folder.glob("*.txt")):
        stem = path.stem.casefold()
        if stem in SPLIT_NAMES or stem == "trainval":
            lists.setdefault(SPLIT_NAMES.get(stem, stem), path)
    for train, validation in (("train", "validation"), ("trainval", "test"), ("train", "test")):
        if train in lists and validation in lists:
            chosen = dict(zip(SPLITS, (lists[train], lists[validation]), strict=True))
            break
    else:
        alone = lists.get("trainval", lists.get("train"))
        if alone is None and lists:
            raise ValueError(
                f"{source}: a list of images to train on is needed, train.txt or trainval.txt. "
                f"Received: {printable(folder)} with {sorted(p.name for p in lists.values())}."
            )
        chosen = {} if alone is None else {"all": alone}
    seen: set[str] = set()
    names = {}
    for split, path in chosen.items():
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
        names[split] = [name for name in lines if name not in seen]
        for name in lines:
            if name in seen:
                listing.left_out.note("of the lists of both splits, which are trained on", name)
        seen.update(lines)
    return names
