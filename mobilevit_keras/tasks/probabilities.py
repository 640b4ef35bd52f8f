"""Whether a file gives the probabilities that its Keras model gives."""

import dataclasses
from typing import Any

import numpy as np

from mobilevit_keras.tasks.task import Comparison

# Of int8's softmax, whose answers are multiples of 1 / 256, half a step; of any other far below
# what float16 holds (6e-8 at the least), so that every class counts.
_INT8_GRID = 256
_INT8_FLOOR = 0.5 / _INT8_GRID
_FLOOR = 1e-8

# The best class is clear where it leads by this many times the bound, as differences go.
_CLEAR = 2.0


@dataclasses.dataclass(frozen=True)
class Bound:
    """How far a file's answers may lie from Keras's.

    Attributes:
        difference: Root mean square of the differences, as a share of how much the answers vary;
            of one class, twice as much.
        resolution: What an image must change in the answers to be told from no change, as a share
            of their spread over classes: the format's own rounding is of this size.
    """

    difference: float
    resolution: float


# A wrong file is off by a third or more: a third to a half where red and blue are exchanged or
# logits are halved, one or more where classes are exchanged or the answer is always the same.
_EXACT, _HALF, _EIGHT_BITS = Bound(0.01, 1e-4), Bound(0.05, 1e-3), Bound(0.2, 0.01)
BOUNDS = {
    ("tflite", "float32"): _EXACT,
    ("tflite", "float16"): _HALF,
    ("tflite", "dynamic"): _EIGHT_BITS,
    ("tflite", "int8"): _EIGHT_BITS,
    ("tflite", "int8_full"): Bound(0.3, 0.02),
    ("tfjs", "float32"): _EXACT,
    ("tfjs", "float16"): _HALF,
    ("tfjs", "uint8"): _EIGHT_BITS,
}


class ProbabilityComparison(Comparison):
    """Two sets of probabilities, compared by their logarithms about the mean of the classes.

    These are the logits but for a constant, whatever the number of classes and however unsure the
    model. How much they vary has two parts: what the classes have in common over all images, and
    what each image changes. A file that is right in the first alone answers the same to every
    image, so both are compared, each with its own size.

    Args:
        expected: Keras's, `(N, K)`.
        actual: The file's.

    Raises:
        ValueError: If their shapes differ.
    """

    def __init__(self, expected: np.ndarray, actual: np.ndarray) -> None:
        if expected.shape != actual.shape:
            raise ValueError(
                f"Both arrays must have one shape. Received: {expected.shape} and {actual.shape}."
            )
        self.expected, self.actual = expected, actual
        on_grid = np.array_equal(actual * _INT8_GRID, np.rint(actual * _INT8_GRID))
        floor = _INT8_FLOOR if on_grid else _FLOOR
        self._expected, self._actual = (_centred_logits(p, floor) for p in (expected, actual))
        # What each image changes.
        self._change = self._expected - self._expected.mean(axis=0)
        self._actual_change = self._actual - self._actual.mean(axis=0)

    @property
    def max_abs_difference(self) -> float:
        """Largest difference of a probability."""
        return float(np.max(np.abs(self.expected - self.actual)))

    @property
    def top1_agreement(self) -> float:
        """Share of the images with the same best class."""
        return float(np.mean(self.expected.argmax(-1) == self.actual.argmax(-1)))

    @property
    def relative_difference(self) -> float:
        """Root mean square of the differences in what images change, over that of the changes."""
        return _ratio(_rms(self._actual_change - self._change), _rms(self._change))

    def clear_images(self, margin: float) -> np.ndarray:
        """Which images have a best class that leads by `margin` times the spread, `(N,)`."""
        if self._expected.shape[1] < 2:
            return np.zeros(len(self._expected), bool)
        best = np.sort(self._expected, axis=-1)[:, -2:]
        return best[:, 1] - best[:, 0] > margin * self._spread

    @property
    def _spread(self) -> float:
        """Of the answers, over images and classes."""
        return _rms(self._expected)

    def as_json(self) -> dict[str, Any]:
        return {
            "images": len(self.expected),
            "max_abs_difference": self.max_abs_difference,
            "top1_agreement": self.top1_agreement,
            "relative_difference": self.relative_difference,
            "differing_images": int(self._differing(_EIGHT_BITS.resolution).sum()),
            "clear_images": int(self.clear_images(_CLEAR * _EIGHT_BITS.difference).sum()),
        }

    def summary(self) -> str:
        return (
            f"largest difference {self.max_abs_difference:.2e}, same class on "
            f"{100 * self.top1_agreement:.1f}% of {len(self.expected)} images"
        )

    def problem(self, file_format: str, precision: str) -> str | None:
        bound = BOUNDS[file_format, precision]
        if not np.all(np.isfinite(self.actual)):
            return "The file must answer with numbers. It gives NaN or infinity."
        differing = int(self._differing(bound.resolution).sum())
        if differing < 2:
            return (
                "Keras's answers must differ between the images, or nothing can be compared. Only "
                f"{differing} of {len(self.expected)} answers can be told from the others in "
                f"{precision}. Compare on other images, or train the model."
            )
        if np.ptp(self._actual, axis=0).max() == 0:
            return (
                "The file's answers must differ between the images, as Keras's do. It gives one "
                f"answer to all of {len(self.expected)}."
            )
        return self._far(bound) or self._other_class(bound)

    def _differing(self, resolution: float) -> np.ndarray:
        """Which images change the answer by more than a share of the spread."""
        return np.sqrt(np.mean(self._change**2, axis=1)) > resolution * self._spread

    def _far(self, bound: Bound) -> str | None:
        """Whether the answers, or what images change in them, lie too far apart."""
        rounding = bound.resolution * self._spread
        for what, difference, size in (
            ("answers", self._actual - self._expected, self._spread),
            ("change from image to image", self._actual_change - self._change, _rms(self._change)),
        ):
            of_class = np.sqrt(np.mean(difference**2, axis=0))
            # Half of the rounding, because an image that can be told changes twice as much.
            allowed = bound.difference * size + 0.5 * rounding
            worst = int(np.argmax(of_class))
            # Written so that NaN fails too.
            if not _rms(difference) <= allowed or not of_class[worst] <= 2.0 * allowed:
                return (
                    f"The file's {what} must agree with Keras's within "
                    f"{100 * allowed / size:.2g}% of their spread. They are off by "
                    f"{100 * _ratio(_rms(difference), size):.2g}%, those of class {worst} by "
                    f"{100 * _ratio(of_class[worst], size):.2g}%, on {len(self.expected)} images."
                )
        return None

    def _other_class(self, bound: Bound) -> str | None:
        """Whether the file gives another class where Keras's leads clearly."""
        clear = self.clear_images(_CLEAR * bound.difference)
        other = clear & (self.expected.argmax(-1) != self.actual.argmax(-1))
        if not other.any():
            return None
        return (
            "The file must give Keras's best class where that leads clearly. It gives another on "
            f"{other.sum()} of {clear.sum()} such images."
        )


def _centred_logits(probabilities: np.ndarray, floor: float) -> np.ndarray:
    logarithms = np.log(np.maximum(probabilities.astype(np.float64), floor))
    return logarithms - logarithms.mean(axis=-1, keepdims=True)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _ratio(value: float, size: float) -> float:
    return float(value / size) if size else float("inf") if value else 0.0
