"""Embedded scenes with masks and boxes: scikit-learn's scanned digits on its two photographs."""

import dataclasses
import functools
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mobilevit_keras.data.source import SPLITS, Source
from mobilevit_keras.data.sources.listed import ListedSource
from mobilevit_keras.data.sources.listed_objects import ListedObjects
from mobilevit_keras.data.sources.objects import PLAIN, Objects
from mobilevit_keras.data.sources.scans import scans_of_splits
from mobilevit_keras.data.sources.scene_drawing import draw_scene
from mobilevit_keras.source_kinds import MASK

NUM_IMAGES = {"train": 600, "validation": 150}
_SEED = 0
_DIGITS = tuple(str(digit) for digit in range(10))


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """The scenes of a split: files of their images and masks, and what is in them."""

    images: list[bytes]
    masks: list[bytes]
    sizes: np.ndarray
    objects: list[Objects]


class SceneMasks(ListedSource):
    """The scenes with their masks: class 0 is the background, then come the ten digits."""

    fields = MASK

    def __init__(self):
        columns = {
            split: {
                "name": _names(split),
                "image": _drawn(split).images,
                "mask": _drawn(split).masks,
            }
            for split in NUM_IMAGES
        }
        super().__init__(("background", *_DIGITS), columns)

    def __str__(self) -> str:
        return "scenes"


class SceneBoxes(ListedObjects):
    """The scenes with boxes around what can be seen of each digit.

    Args:
        fields: The entries that the records have of them.
    """

    def __init__(self, fields: Sequence[str]):
        columns = {
            split: {
                "name": _names(split),
                "image": _drawn(split).images,
                "size": _drawn(split).sizes,
            }
            for split in NUM_IMAGES
        }
        objects = {split: _drawn(split).objects for split in NUM_IMAGES}
        super().__init__(_DIGITS, columns, objects, fields)

    def __str__(self) -> str:
        return "scenes"


def open_scenes(*, fields: Sequence[str] = MASK) -> Source:
    """Opens the embedded scenes, which are drawn in seconds and kept in memory.

    Args:
        fields: `("mask",)`, or `("boxes", "labels")` with or without `"ignored"`.

    Raises:
        ValueError: If scikit-learn is not installed.
    """
    try:
        return SceneMasks() if tuple(fields) == MASK else SceneBoxes(fields)
    except ImportError as error:
        raise ValueError(
            f"scenes: its data needs a package that is not installed: {error}."
        ) from error


def _names(split: str) -> list[str]:
    return [f"{split} scene {number}" for number in range(NUM_IMAGES[split])]


@functools.cache
def _drawn(split: str) -> _Drawn:
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits()
    # Scans of the one split are not seen in the other.
    chosen = scans_of_splits()[split]
    scans, shown = digits.images[chosen] / 16.0, digits.target[chosen]
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    random = np.random.Generator(np.random.PCG64([_SEED, SPLITS.index(split)]))
    drawn = _Drawn([], [], np.zeros((NUM_IMAGES[split], 2), np.int32), [])
    for number in range(NUM_IMAGES[split]):
        scene = draw_scene(random, photographs, scans, shown)
        # Finely, and with whole colours, so that the edges stay as they were drawn.
        drawn.images.append(_encoded(scene.image, "JPEG", quality=95, subsampling=0))
        drawn.masks.append(_encoded(scene.mask, "PNG"))
        drawn.sizes[number] = scene.mask.shape
        ignored = np.full(scene.labels.shape, PLAIN, np.int64)
        drawn.objects.append(Objects(scene.boxes, scene.labels, ignored))
    return drawn


def _encoded(pixels: np.ndarray, image_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()
