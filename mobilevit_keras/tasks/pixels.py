"""Whether a file's maps of logits give the pictures that its Keras model gives."""

import functools
import itertools
from typing import Any

import keras
import numpy as np

from mobilevit_keras.layers.resize import resize_bilinear
from mobilevit_keras.metrics import confusion_matrix, intersection_over_union
from mobilevit_keras.tasks.logit_comparison import (
    CLEAR,
    EIGHT_BITS,
    Bound,
    LogitComparison,
    leads,
    rms,
)

# Pixels of a cell's side that are looked at, whatever the output stride: more of them lie in the
# same places of the picture and change the shares by next to nothing.
_PIXELS = 4

# Maps lie elsewhere where they agree better once they are moved, by more than chance.
_BETTER = 0.9


class PixelComparison(LogitComparison):
    """Two sets of maps of logits, compared as they are and by the pictures they become.

    Classes are compared on enlarged maps, because that is where runtimes and people choose them:
    two maps whose cells have equal classes may still draw an edge in two places, and where a cell's
    class changes with next to no change of its logits, an edge moves by a pixel, not by a cell.

    Args:
        expected: Keras's, `(N, h, w, K)`.
        actual: The file's.

    Raises:
        ValueError: If their shapes differ.
    """

    @functools.cached_property
    def _seen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keras's class, the file's, and by how much Keras's leads, of every pixel `(N, H, W)`."""
        height, width = (_PIXELS * side for side in self._expected.shape[1:3])
        expected, actual, lead = [], [], []
        for maps in zip(self._expected, self._actual, strict=True):
            # Image by image: enlarged maps of many classes are large.
            ours, theirs = keras.ops.convert_to_numpy(
                resize_bilinear(np.stack(maps), height, width)
            )
            expected.append(ours.argmax(-1).astype(np.uint16))
            actual.append(theirs.argmax(-1).astype(np.uint16))
            lead.append(leads(ours))
        return np.stack(expected), np.stack(actual), np.stack(lead)

    @property
    def max_abs_difference(self) -> float:
        """Largest difference of a logit, about the mean of its place."""
        return float(np.max(np.abs(self._expected - self._actual)))

    @property
    def pixel_agreement(self) -> float:
        """Share of the pixels with the same class."""
        expected, actual, _ = self._seen
        return float(np.mean(expected == actual))

    @property
    def mean_iou(self) -> float:
        """Mean intersection over union of the file's classes with Keras's, of all that occur."""
        expected, actual, _ = self._seen
        matrix = confusion_matrix(expected, actual, self._expected.shape[-1])
        return float(np.nanmean(intersection_over_union(matrix)))

    def clear_pixels(self, margin: float) -> np.ndarray:
        """Which pixels have a class that leads by `margin` times the spread, `(N, H, W)`."""
        return self._seen[2] > margin * self.spread

    def as_json(self) -> dict[str, Any]:
        return {
            "images": len(self._expected),
            "max_abs_difference": self.max_abs_difference,
            "pixel_agreement": self.pixel_agreement,
            "mean_iou": self.mean_iou,
            "relative_difference": self.relative_difference,
            "differing_images": self.differing_images(EIGHT_BITS),
            "clear_pixels": float(self.clear_pixels(CLEAR * EIGHT_BITS.difference).mean()),
        }

    def summary(self) -> str:
        return (
            f"same class on {100 * self.pixel_agreement:.2f}% of the pixels, mean IoU "
            f"{100 * self.mean_iou:.2f}%, logits off by {100 * self.relative_difference:.2g}% "
            f"of what changes, on {len(self._expected)} images"
        )

    def _unlike(self, bound: Bound) -> str | None:
        return elsewhere(self._expected, self._actual) or self._other_class(bound)

    def _other_class(self, bound: Bound) -> str | None:
        """Whether the file gives many pixels another class where Keras's leads clearly."""
        expected, actual, _ = self._seen
        clear = self.clear_pixels(CLEAR * bound.difference)
        other = float(np.mean((expected != actual)[clear])) if clear.any() else 0.0
        if other <= bound.other_pixels:
            return None
        return (
            "The file must give Keras's class to the pixels where that leads clearly. It gives "
            f"another to {100 * other:.2g}% of them, and may to {100 * bound.other_pixels:.2g}%."
        )


def elsewhere(expected: np.ndarray, actual: np.ndarray) -> str | None:
    """Whether a file's maps agree better with Keras's once they are moved by a cell.

    Args:
        expected: Keras's, `(N, h, w, K)`.
        actual: The file's.
    """
    height, width = expected.shape[1:3]
    for down, right in itertools.product((-1, 0, 1), repeat=2):
        if abs(down) >= height or abs(right) >= width:
            continue
        rows, columns = _overlap(down, height), _overlap(right, width)
        ours = expected[:, rows[0], columns[0]]
        there = rms(actual[:, rows[0], columns[0]] - ours)
        moved = rms(actual[:, rows[1], columns[1]] - ours)
        if moved < _BETTER * there:
            return (
                "The file's maps must lie where Keras's do. They agree better once they are "
                f"moved by {-down} cells down and {-right} to the right."
            )
    return None


def _overlap(step: int, length: int) -> tuple[slice, slice]:
    """Cells of a side that have a neighbour `step` cells on, and these neighbours."""
    here = slice(max(0, -step), length - max(0, step))
    return here, slice(here.start + step, here.stop + step)
