"""Segmentation in the folders of PASCAL VOC."""

from pathlib import Path

from mobilevit_keras.data.source import printable
from mobilevit_keras.data.sources.class_names import CLASS_NAMES_FILE, read_class_names
from mobilevit_keras.data.sources.listing import VALIDATION_FRACTION, check_fraction
from mobilevit_keras.data.sources.mask_files import MASK_EXTENSION, MaskFiles
from mobilevit_keras.data.sources.voc_folder import CLASS_NAMES, open_voc_folder

_MASKS = "SegmentationClass"


class VocSegmentation(MaskFiles):
    """Images in `JPEGImages`, masks in `SegmentationClass`, lists in `ImageSets/Segmentation`.

    `train.txt` and `val.txt` name the images of the two splits; see `open_voc_folder` for other
    lists. Classes are VOC's, `background` first, or those of a `classes.txt` beside the folders.
    A listed image without its mask stays, and counts as unreadable when it is its turn.

    Args:
        path: The folder that holds these, or one that holds it.
        validation_fraction: Part of the images that is held out, where no list says which.

    Raises:
        FileNotFoundError: If there are no such folders.
        ValueError: If there are several, a split has no images, or class names are not as they
            must be.
    """

    def __init__(self, path: str | Path, *, validation_fraction: float = VALIDATION_FRACTION):
        self.path = Path(path)
        check_fraction(validation_fraction)
        places = (_MASKS, MASK_EXTENSION)
        folder = open_voc_folder(self, self.path, places, "Segmentation", validation_fraction)
        self.left_out = str(folder.listing.left_out)
        names_file = folder.root / CLASS_NAMES_FILE
        class_names = ("background", *CLASS_NAMES)
        if names_file.is_file():
            class_names = read_class_names(names_file)
        pairs = {
            split: [(folder.image(name), folder.target(name)) for name in names]
            for split, names in folder.names.items()
        }
        super().__init__(class_names, pairs)

    def __str__(self) -> str:
        return f"voc-segmentation:{printable(self.path)}"
