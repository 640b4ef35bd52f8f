import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import numpy as np

from mobilevit_keras.data import preprocess
from mobilevit_keras.files import atomic_path
from mobilevit_keras.inference.files import picture_files, read_in_batches
from mobilevit_keras.metrics import class_masks
from mobilevit_keras.models import MobileViTImageSegmenter, class_names_of
from mobilevit_keras.palette import class_colours, overlay

ENDINGS = (".mask.png", ".overlay.jpg")
"""What follows an image's name in the names of its pictures."""

_MOST_CLASSES = 256


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentedImage:
    """What a segmenter makes of an image file.

    Attributes:
        path: The image file.
        mask: The class of every pixel of the original image, upright, uint8 `(H, W)`.
        class_names: Names of the classes.
        mask_file: The mask as a PNG of class numbers with a palette; None where none was written.
        overlay_file: The image with the colours of its classes laid over it; None likewise.
    """

    path: Path
    mask: np.ndarray
    class_names: tuple[str, ...]
    mask_file: Path | None = None
    overlay_file: Path | None = None

    def shares(self) -> list[tuple[str, float]]:
        """The classes that occur with their shares of the pixels, most frequent first."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.class_names))
        order = np.argsort(-counts, kind="stable")
        return [
            (self.class_names[i], float(counts[i]) / self.mask.size) for i in order if counts[i]
        ]


def segment_images(
    model: MobileViTImageSegmenter,
    paths: Iterable[str | Path],
    folder: str | Path | None = None,
    batch_size: int = 8,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> list[SegmentedImage]:
    """Finds the class of every pixel of image files.

    Each image is stretched to the model's size as a whole, and the logits back to the image's own.

    Args:
        model: A trained segmenter; without class names the classes are called "0", "1" and so on.
        paths: Image files.
        folder: Where to write NAME.mask.png and NAME.overlay.jpg of each; by default nothing is
            written. Images of one name are numbered in the order in which they come.
        batch_size: Images in the model at once.
        unreadable: Told of each file that cannot be read and why; it is left out. Without it the
            first one is an error.

    Returns:
        One answer for each file in the given order.

    Raises:
        ValueError: If the model is no segmenter or has more classes than a mask has numbers, a file
            is no image, `batch_size` is not positive, or a picture would replace one of the images.
        OSError: If a file cannot be read or written.
    """
    return list(iterate_segmented(model, paths, folder, batch_size, unreadable))


def iterate_segmented(
    model: MobileViTImageSegmenter,
    paths: Iterable[str | Path],
    folder: str | Path | None = None,
    batch_size: int = 8,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> Iterator[SegmentedImage]:
    """The same one image after another; see `segment_images`."""
    if not isinstance(model, MobileViTImageSegmenter):
        raise ValueError(f"A segmenter is needed. Received: a {type(model).__name__}.")
    if model.num_classes > _MOST_CLASSES:
        raise ValueError(
            f"A mask holds {_MOST_CLASSES} classes at most. Received: {model.num_classes}."
        )
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive. Received: {batch_size}.")
    paths = [Path(path) for path in paths]
    names = [None] * len(paths)
    if folder is not None:
        names = picture_files(paths, Path(folder), ENDINGS)
    for read in read_in_batches(zip(paths, names, strict=True), batch_size, unreadable):
        yield from _segment(model, read)


def _segment(model, read: list[tuple[Path, tuple | None, np.ndarray]]):
    # All of each image has a mask, whatever the model's preprocessing would cut off.
    wanted = {**dataclasses.asdict(model.preprocessing), "resize": "stretch"}
    inputs = preprocess([pixels for _, _, pixels in read], **wanted)
    logits = keras.ops.convert_to_numpy(model(inputs, training=False))
    names = class_names_of(model)
    for (path, files, pixels), of_image in zip(read, logits, strict=True):
        (mask,) = class_masks(of_image[None], *pixels.shape[:2])
        mask = mask.astype(np.uint8)
        if files is not None:
            _write(mask, pixels, *files)
        yield SegmentedImage(path, mask, names, *(files or ()))


def _write(mask: np.ndarray, pixels: np.ndarray, mask_file: Path, overlay_file: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(mask)
    picture.putpalette(class_colours().tobytes())
    with atomic_path(mask_file) as temporary:
        picture.save(temporary)
    with atomic_path(overlay_file) as temporary:
        Image.fromarray(overlay(pixels, mask)).save(temporary, quality=90)
