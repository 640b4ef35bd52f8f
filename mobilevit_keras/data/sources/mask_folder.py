"""A folder of images and one of masks with the same names."""

import itertools
import os
import unicodedata
from pathlib import Path

from mobilevit_keras.data.decoding import image_extensions
from mobilevit_keras.data.source import printable
from mobilevit_keras.data.sources.class_names import CLASS_NAMES_FILE, read_class_names
from mobilevit_keras.data.sources.listing import (
    VALIDATION_FRACTION,
    ListedFile,
    Listing,
    check_fraction,
    hold_out,
    leave_out_copies,
    split_folders,
)
from mobilevit_keras.data.sources.mask_files import MASK_EXTENSION, MaskFiles, numbers_in

IMAGES, MASKS = "images", "masks"

# Stands in a split's place where there are no folders for the splits.
_ALL = "all"
# How many masks are looked at for the numbers that class names are asked for.
_LOOKED_AT = 20


class MaskFolder(MaskFiles):
    """Images and masks of the same names: `PATH/images/…/a.jpg` and `PATH/masks/…/a.png`.

    Masks are PNG files of class numbers, grey or with a palette; 255 is no class. `classes.txt`
    names the classes, one a line, that of number 0 first. The folders of the two splits, `train`
    and `validation` (or `val`, `valid` and, without these, `test`), lie inside both `images` and
    `masks`. Without them a part of the images is held out, by a hash of each one's name.

    An image without its mask stays, and counts as unreadable when it is its turn. `left_out` says
    which files are no images or masks, and which masks have no image.

    Args:
        path: The folder.
        validation_fraction: Part of the images that is held out, where there is no `validation`
            folder; at least one of two or more.

    Raises:
        FileNotFoundError: If there is no such folder, or no `images`, `masks` or `classes.txt`.
        ValueError: If no image has a mask, a split has no images, several folders may be one
            split, or class names are not as they must be.
    """

    def __init__(self, path: str | Path, *, validation_fraction: float = VALIDATION_FRACTION):
        self.path = Path(path)
        check_fraction(validation_fraction)
        for part in (IMAGES, MASKS):
            if not (self.path / part).is_dir():
                raise FileNotFoundError(
                    f"A folder that holds the folders {IMAGES!r} and {MASKS!r} is needed. "
                    f"Received: {self}, without {part!r}."
                )
        listing = Listing(self.path)
        images, masks = self._splits(IMAGES), self._splits(MASKS)
        if images.keys() != masks.keys():
            raise ValueError(
                f"{self}: {IMAGES!r} and {MASKS!r} must hold the same folders for the splits. "
                f"Received: {_shown(images)} and {_shown(masks)}."
            )
        pairs = _pairs(images, masks, listing)
        have_masks = [mask for _, mask in itertools.chain(*pairs.values()) if os.path.exists(mask)]
        if not have_masks:
            raise ValueError(
                f"{self}: an image `{IMAGES}/NAME.jpg` needs its mask, `{MASKS}/NAME.png`. "
                f"Received: no image that has one{listing.left_out.told()}."
            )
        class_names = self._class_names(have_masks)
        self.left_out = str(listing.left_out)
        if _ALL in pairs:
            pairs = hold_out(pairs[_ALL], lambda pair: pair[0].relative, validation_fraction)
        paths = {split: [(file.path, mask) for file, mask in of] for split, of in pairs.items()}
        super().__init__(class_names, paths)

    def __str__(self) -> str:
        return f"masks:{printable(self.path)}"

    def _splits(self, part: str) -> dict[str, Path]:
        folder = self.path / part
        return split_folders(self, folder, Path.is_dir, holds=part) or {_ALL: folder}

    def _class_names(self, masks: list[str]) -> list[str]:
        path = self.path / CLASS_NAMES_FILE
        if path.is_file():
            return read_class_names(path)
        numbers = ", ".join(map(str, numbers_in(masks[:_LOOKED_AT])))
        raise FileNotFoundError(
            f"{self}: {CLASS_NAMES_FILE} must name the classes, one a line, that of number 0 first "
            f"(255 is none). Received: no such file, and masks that hold {numbers}."
        )


def _pairs(
    images: dict[str, Path], masks: dict[str, Path], listing: Listing
) -> dict[str, list[tuple[ListedFile, str]]]:
    """The images of each split with the paths where their masks are, or should be."""
    extensions = image_extensions()
    files = [listing.files(folder, extensions) for folder in images.values()]
    pairs = {}
    for split, found in zip(images, leave_out_copies(files, listing), strict=True):
        listed = listing.files(masks[split], (MASK_EXTENSION,), why_not=lambda _: "no PNG mask")
        by_name = {_name(file): file.path for file in listed}
        pairs[split] = [
            (file, by_name.get(_name(file), str(masks[split] / _stem(file)) + MASK_EXTENSION))
            for file in found
        ]
        used = {mask for _, mask in pairs[split]}
        for mask in by_name.values():
            if mask not in used:
                listing.note("mask(s) without an image", mask)
    return pairs


def _stem(file: ListedFile) -> str:
    return os.path.splitext(file.relative)[0]


def _name(file: ListedFile) -> str:
    """What an image and its mask have in common."""
    # Two tools, or a disk between them, may have stored ü in two ways.
    return unicodedata.normalize("NFC", _stem(file))


def _shown(folders: dict[str, Path]) -> str:
    return " and ".join(f"{path.parent.name}/{path.name}" for path in folders.values())
