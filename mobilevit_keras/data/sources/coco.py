"""COCO's annotations: JSON files of boxes, and folders of images."""

import collections
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mobilevit_keras.data.decoding import image_extensions
from mobilevit_keras.data.source import printable
from mobilevit_keras.data.sources.box_files import AnnotatedImage, BoxFiles
from mobilevit_keras.data.sources.coco_file import CocoFile
from mobilevit_keras.data.sources.listing import (
    SPLIT_NAMES,
    VALIDATION_FRACTION,
    LeftOut,
    check_fraction,
    hold_out,
)
from mobilevit_keras.source_kinds import BOXES

_IMAGES = "images"
# Stands in a split's place where one file is for both.
_ALL = "all"
# How many images are looked for in folders that may be theirs.
_LOOKED_FOR = 50


class Coco(BoxFiles):
    """Boxes from JSON files as COCO has them, with folders of images.

    The files are `PATH/annotations/instances_train2017.json` and `…/instances_val2017.json`, or
    any others in `PATH`, `PATH/annotations` and the splits' own folders, whose names tell the
    split: `train`, and `validation`, `val`, `valid` or, without these, `test`. Of a single file a
    part of the images is held out, by a hash of each one's name. `PATH` may be that file. Images
    lie in `train2017`, `train` or `images` beside these, or where the file itself lies.

    Classes are the categories in the order of their numbers, which may have gaps. Images without
    boxes stay. Those that are not there count as unreadable when it is their turn, and so do those
    of another size than the file says. Boxes are clipped to their image. Those around crowds are
    for evaluation alone. `left_out` says which boxes and images are not used.

    Args:
        path: The folder, or one JSON file.
        fields: `("boxes", "labels")`, with or without `"ignored"`.
        validation_fraction: Part of the images that is held out, where there is one file.

    Raises:
        FileNotFoundError: If there is no such file, or none of its images.
        ValueError: If a file is not as it must be, there are several for one split, or there is no
            box to train on.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fields: Sequence[str] = BOXES,
        validation_fraction: float = VALIDATION_FRACTION,
    ):
        self.path = Path(path)
        check_fraction(validation_fraction)
        lost_files, lost_boxes = LeftOut(), LeftOut("box", "boxes")
        files = {split: CocoFile(found, lost_files) for split, found in self._annotations().items()}
        folders = {split: self._folder(split, file) for split, file in files.items()}
        # What only the validation file names comes last.
        class_names = list(dict.fromkeys(itertools.chain(*(of.names for of in files.values()))))
        images = {
            split: file.images(folders[split], class_names, lost_boxes)
            for split, file in files.items()
        }
        _leave_out_others(images, folders, lost_files)
        self.left_out = ". ".join(str(lost) for lost in (lost_files, lost_boxes) if str(lost))
        if _ALL in images:
            start = len(str(folders[_ALL])) + 1
            images = hold_out(images[_ALL], lambda image: image.path[start:], validation_fraction)
        super().__init__(class_names, images, fields)

    def __str__(self) -> str:
        return f"coco:{printable(self.path)}"

    def _annotations(self) -> dict[str, Path]:
        """The JSON file of each split, or of both."""
        if self.path.is_file():
            return {_ALL: self.path}
        if not self.path.is_dir():
            raise FileNotFoundError(
                f"A folder with COCO's annotations is needed. Received: {self}."
            )
        folders = [self.path, self.path / "annotations"]
        folders += [path for path in sorted(self.path.iterdir()) if _split_in(path.name)]
        found = [path for folder in folders for path in sorted(folder.glob("[!.]*.json"))]
        # COCO's captions and key points lie beside its boxes.
        found = [path for path in found if "instances" in path.name] or found
        by_split: dict[str, list[Path]] = collections.defaultdict(list)
        for path in found:
            split = _split_in(path.stem)
            if split is None and path.parent not in folders[:2]:
                split = _split_in(path.parent.name)
            by_split[split or _ALL].append(path)
        train = by_split["train"] or by_split[_ALL]
        validation = by_split["validation"] or by_split["test"]
        if not train:
            raise FileNotFoundError(
                "A JSON file of COCO's annotations to train on is needed, such as "
                f"annotations/instances_train.json. Received: {self}."
            )
        chosen = {"train": train, "validation": validation} if validation else {_ALL: train}
        for split, paths in chosen.items():
            if len(paths) > 1:
                names = [printable(path.relative_to(self.path)) for path in paths]
                raise ValueError(f"{self}: one JSON file must be for {split!r}. Received: {names}.")
        return {split: paths[0] for split, paths in chosen.items()}

    def _folder(self, split: str, file: CocoFile) -> Path:
        """Where the images of a file lie: the likely folder that holds most of the first ones."""
        beside = file.path.parent
        root = self.path if self.path.is_dir() else beside
        parents = (root, root / _IMAGES, beside, beside.parent, beside.parent / _IMAGES)
        synonyms = [name for name, meant in SPLIT_NAMES.items() if meant == split]
        names = (file.path.stem.removeprefix("instances_"), *synonyms, "")
        folders = dict.fromkeys(parent / name for name in names for parent in parents)
        wanted = file.file_names[:_LOOKED_FOR]
        found = {
            # Of a name that is too long for a file this says no, where pathlib raises.
            folder: sum(os.path.isfile(folder / name) for name in wanted)
            for folder in folders
            if folder.is_dir()
        }
        best = max(found, key=found.__getitem__)
        if wanted and not found[best]:
            raise FileNotFoundError(
                f"{self}: the images of {file.path.name} must lie in a folder called "
                f"{names[0]!r} or {_IMAGES!r}, or beside it. Received: none of them, such as "
                f"{printable(wanted[0])}."
            )
        return best


def _split_in(name: str) -> str | None:
    """The split that a file or folder is called by, if it is: `instances_val2017` is for `val`."""
    words = re.findall("[a-z]+", name.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _leave_out_others(
    images: dict[str, list[AnnotatedImage]], folders: dict[str, Path], left_out: LeftOut
) -> None:
    """Takes images of both splits from the second one, and notes files that no list names."""
    listed: set[str] = set()
    for split, of in images.items():
        images[split] = [image for image in of if image.path not in listed]
        for image in of:
            if image.path in listed:
                left_out.note("of both splits, which are trained on", os.path.basename(image.path))
        listed.update(image.path for image in of)
    extensions = image_extensions()
    for folder in dict.fromkeys(folders.values()):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if os.path.splitext(name)[1].lower() in extensions and path not in listed:
                left_out.note("image(s) that no JSON file names", name)
