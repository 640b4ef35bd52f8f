"""Boxes in the folders of PASCAL VOC."""

from collections.abc import Sequence
from pathlib import Path

from mobilevit_keras.data.source import printable
from mobilevit_keras.data.sources.box_files import (
    AnnotatedImage,
    BoxFiles,
    ObjectCollector,
    shape_of,
)
from mobilevit_keras.data.sources.class_names import CLASS_NAMES_FILE, read_class_names
from mobilevit_keras.data.sources.listing import VALIDATION_FRACTION, LeftOut, check_fraction
from mobilevit_keras.data.sources.objects import DIFFICULT, PLAIN
from mobilevit_keras.data.sources.voc_annotation import VocAnnotation
from mobilevit_keras.data.sources.voc_folder import open_voc_folder
from mobilevit_keras.source_kinds import BOXES

_ANNOTATIONS = "Annotations"


class Voc(BoxFiles):
    """Images in `JPEGImages`, boxes in `Annotations`, lists in `ImageSets/Main`.

    `train.txt` and `val.txt` name the images of the two splits; see `open_voc_folder` for other
    lists. Classes are the sorted names of all objects, which for VOC itself is its order; or those
    of a `classes.txt` beside the folders. Pixels are counted from 1, and a box's right and bottom
    ones belong to it, as VOC has it.

    Images without objects stay. Those without an annotation, or of another size than it says, count
    as unreadable when it is their turn. Boxes are clipped to their image; `left_out` says which
    boxes and files are not used. Difficult objects are trained on as the others are.

    Args:
        path: The folder that holds these, or one that holds it.
        fields: `("boxes", "labels")`, with or without `"ignored"`.
        validation_fraction: Part of the images that is held out, where no list says which.

    Raises:
        FileNotFoundError: If there are no such folders.
        ValueError: If there are several, a split has no images, there is no box to train on, or
            class names are not as they must be.
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
        places = (_ANNOTATIONS, ".xml")
        folder = open_voc_folder(self, self.path, places, "Main", validation_fraction)
        annotations = {
            name: VocAnnotation.read(folder.target(name))
            for names in folder.names.values()
            for name in names
        }
        names_file = folder.root / CLASS_NAMES_FILE
        if names_file.is_file():
            class_names = read_class_names(names_file)
        else:
            objects = (each for annotation in annotations.values() for each in annotation.objects)
            class_names = sorted({each.name for each in objects if each.name})
        labels = {name: index for index, name in enumerate(class_names)}
        lost = LeftOut("box", "boxes")
        images = {
            split: [
                _annotated(name, folder.image(name), annotations[name], labels, lost)
                for name in names
            ]
            for split, names in folder.names.items()
        }
        parts = (str(folder.listing.left_out), str(lost))
        self.left_out = ". ".join(part for part in parts if part)
        super().__init__(class_names, images, fields)

    def __str__(self) -> str:
        return f"voc:{printable(self.path)}"


def _annotated(
    name: str, path: str, annotation: VocAnnotation, labels: dict[str, int], lost: LeftOut
) -> AnnotatedImage:
    """An image with those of its objects that can be used."""
    shape = annotation.shape or shape_of(path)
    collector = ObjectCollector(lost, shape)
    for each in annotation.objects:
        ignored = DIFFICULT if each.is_difficult else PLAIN
        collector.add(each.box, labels.get(each.name), ignored, f"{name}: {each.text}")
    return AnnotatedImage(path, shape, collector.objects(), annotation.fault)
