"""What a client must know to make boxes of a file's numbers."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np

from mobilevit_keras.boxes.anchors import ASPECT_RATIOS, STRIDES, image_anchors
from mobilevit_keras.boxes.coding import VARIANCE

FILE_ORDER = (1, 0, 3, 2)
"""Where a box's y, x, height and width stand in x, y, width, height. In files they stand so, as
TFLite's own operations and MediaPipe take them; the same exchange leads back."""

_FORMAT = "yxhw"
_CLIP = "sides"


@dataclasses.dataclass(frozen=True)
class BoxDecoding:
    """How boxes are read from what a detector's file gives, `(…, A, 4)`: middle's y and x, height
    and width, relative to anchors.

    Attributes:
        size: Height and width of the image that the file takes.
        min_scale, max_scale, multiples: See `image_anchors`.
    """

    size: tuple[int, int]
    min_scale: float
    max_scale: float
    multiples: tuple[int, ...] = (1, 1, 1)

    @functools.cached_property
    def anchors(self) -> np.ndarray:
        """The anchors `(A, 4)`: middle's x and y, width and height, in sides of the image."""
        scales = (self.min_scale, self.max_scale)
        anchors = image_anchors(*self.size, *scales, self.multiples)
        return keras.ops.convert_to_numpy(anchors)

    @property
    def scales(self) -> tuple[float, ...]:
        """What the file's y, x, height and width are divided by."""
        return tuple(1.0 / VARIANCE[index] for index in FILE_ORDER)

    def boxes(self, location) -> np.ndarray:
        """Boxes `(…, A, 4)`, left, top, right, bottom in sides of the image, not cut."""
        # In NumPy: `decode_boxes` takes ten times as long for one image, longer than all that a
        # video's frame has for it. A test holds the two to each other.
        offsets = np.asarray(location, "float32") * self._units
        middle = offsets[..., 1::-1] * self.anchors[:, 2:] + self.anchors[:, :2]
        half = np.exp(offsets[..., :1:-1]) * (0.5 * self.anchors[:, 2:])
        return np.concatenate([middle - half, middle + half], axis=-1)

    @functools.cached_property
    def _units(self) -> np.ndarray:
        return np.array([VARIANCE[index] for index in FILE_ORDER], "float32")

    def as_json(self) -> dict[str, Any]:
        """What a file says of it: the rule of the anchors and the units of the numbers.

        Raises:
            ValueError: If the backbone rounds its maps up at this size, which no client knows of.
        """
        plain = dataclasses.replace(self, multiples=(1, 1, 1))
        if len(plain.anchors) != len(self.anchors):
            raise ValueError(
                "A detector's file must be of a size at which the patches divide its maps, as they "
                f"do where sides are multiples of 64 pixels. Received: {self.size}."
            )
        return {
            "format": _FORMAT,
            "variance": [VARIANCE[index] for index in FILE_ORDER],
            "min_scale": self.min_scale,
            "max_scale": self.max_scale,
            # After the maps at these strides, of sizes rounded up, comes one of a single cell.
            "strides": list(STRIDES),
            "aspect_ratios": [list(ratios) for ratios in ASPECT_RATIOS],
            # Of the anchors widths and heights are cut to those of the image; middles stay.
            "clip": _CLIP,
            "num_anchors": len(self.anchors),
        }

    @classmethod
    def from_json(cls, size: tuple[int, int], found: Mapping[str, Any]) -> Self:
        """Reads what a file of an image's size says.

        Raises:
            ValueError: If it asks for another rule than this version's.
        """
        decoding = cls(tuple(size), found.get("min_scale"), found.get("max_scale"))
        numbers = (decoding.min_scale, decoding.max_scale)
        is_known = all(isinstance(number, int | float) for number in numbers)
        if not is_known or decoding.as_json() != dict(found):
            raise ValueError(
                "A file's boxes must be read by a rule that this version knows. "
                f"Received: {dict(found)}."
            )
        return decoding


def file_order(boxes):
    """Encoded boxes `(…, 4)` as files have them: y, x, height, width. Works in graphs."""
    return keras.ops.take(boxes, FILE_ORDER, axis=-1)
