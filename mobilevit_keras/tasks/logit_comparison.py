"""Whether a file's logits are those of its Keras model, but for a constant that nobody sees."""

import dataclasses

import numpy as np

from mobilevit_keras.tasks.task import Comparison

# The best class is clear where it leads by this many times the bound, as differences go.
CLEAR = 2.0


@dataclasses.dataclass(frozen=True)
class Bound:
    """How far a file's answers may lie from Keras's.

    Attributes:
        difference: Root mean square of the differences, as a share of how much the answers vary;
            of one class, twice as much.
        resolution: What an image must change in the answers to be told from no change, as a share
            of their spread over classes: the format's own rounding is of this size.
        other_pixels: Of the pixels whose class leads clearly, the share that may get another.
        other_boxes: Of the boxes that are clearly there, the share that may be missing.
        overlap: The least median intersection over union of the boxes that are found again.
    """

    difference: float
    resolution: float
    other_pixels: float
    other_boxes: float
    overlap: float


# A wrong file is off by a third or more: a third to a half where red and blue are exchanged or
# logits are halved, one or more where classes are exchanged or the answer is always the same.
_EXACT, _HALF = Bound(0.01, 1e-4, 0.001, 0.01, 0.995), Bound(0.05, 1e-3, 0.005, 0.02, 0.98)
EIGHT_BITS = Bound(0.2, 0.01, 0.02, 0.05, 0.9)
BOUNDS = {
    ("tflite", "float32"): _EXACT,
    ("tflite", "float16"): _HALF,
    ("tflite", "dynamic"): EIGHT_BITS,
    ("tflite", "int8"): EIGHT_BITS,
    ("tflite", "int8_full"): Bound(0.3, 0.02, 0.05, 0.1, 0.85),
    ("tfjs", "float32"): _EXACT,
    ("tfjs", "float16"): _HALF,
    ("tfjs", "uint8"): EIGHT_BITS,
}


class Spread:
    """Two sets of numbers, compared by how much the right ones vary about zero.

    That has two parts: what all images have in common, and what each image changes. A file that is
    right in the first alone answers the same to every image, so both are compared, each with its
    own size.

    Args:
        expected: Keras's, `(N, …, K)`.
        actual: The file's.
    """

    # What one of the last axis is called.
    _part = "class"

    def __init__(self, expected: np.ndarray, actual: np.ndarray) -> None:
        self._expected, self._actual = expected, actual
        with np.errstate(invalid="ignore"):
            # What each image changes.
            self._change = expected - expected.mean(axis=0)
            self._actual_change = actual - actual.mean(axis=0)

    @property
    def relative_difference(self) -> float:
        """Root mean square of the differences in what images change, over that of the changes."""
        return ratio(rms(self._actual_change - self._change), rms(self._change))

    @property
    def spread(self) -> float:
        """Root mean square of Keras's numbers."""
        return rms(self._expected)

    def problem(self, file_format: str, precision: str) -> str | None:
        """See `Comparison.problem`."""
        bound = BOUNDS[file_format, precision]
        if not np.all(np.isfinite(self._actual)):
            return "The file must answer with numbers. It gives NaN or infinity."
        differing, images = self.differing_images(bound), len(self._expected)
        if differing < 2:
            return (
                "Keras's answers must differ between the images, or nothing can be compared. Only "
                f"{differing} of {images} answers can be told from the others in "
                f"{precision}. Compare on other images, or train the model."
            )
        if np.ptp(self._actual, axis=0).max() == 0:
            return (
                "The file's answers must differ between the images, as Keras's do. It gives one "
                f"answer to all of {images}."
            )
        return self._far(bound) or self._unlike(bound)

    def differing_images(self, bound: Bound) -> int:
        """How many images change the answer by more than a format's rounding."""
        others = tuple(range(1, self._change.ndim))
        changes = np.sqrt(np.mean(self._change**2, axis=others))
        return int(np.sum(changes > bound.resolution * self.spread))

    def _far(self, bound: Bound) -> str | None:
        """Whether the answers, or what images change in them, lie too far apart."""
        rounding = bound.resolution * self.spread
        for what, difference, size in (
            ("answers", self._actual - self._expected, self.spread),
            ("change from image to image", self._actual_change - self._change, rms(self._change)),
        ):
            of_part = np.sqrt(np.mean(difference**2, axis=tuple(range(difference.ndim - 1))))
            # Half of the rounding, because an image that can be told changes twice as much.
            allowed = bound.difference * size + 0.5 * rounding
            worst = int(np.argmax(of_part))
            # Written so that NaN fails too.
            if not rms(difference) <= allowed or not of_part[worst] <= 2.0 * allowed:
                return (
                    f"The file's {what} must agree with Keras's within "
                    f"{100 * allowed / size:.2g}% of their spread. They are off by "
                    f"{100 * ratio(rms(difference), size):.2g}%, those of {self._part} {worst} by "
                    f"{100 * ratio(of_part[worst], size):.2g}%, on {len(difference)} images."
                )
        return None

    def _unlike(self, bound: Bound) -> str | None:
        """Whether a person would see another answer."""
        return None


class LogitComparison(Spread, Comparison):
    """Two sets of logits, compared about the mean of the classes, as every softmax sees them.

    Args:
        expected: Keras's, `(N, …, K)`.
        actual: The file's.

    Raises:
        ValueError: If their shapes differ.
    """

    def __init__(self, expected: np.ndarray, actual: np.ndarray) -> None:
        check_shapes(expected, actual)
        # Infinity about its mean is no number; `problem` says so.
        with np.errstate(invalid="ignore"):
            centred = [
                logits - logits.mean(axis=-1, keepdims=True) for logits in (expected, actual)
            ]
        super().__init__(*centred)


def check_shapes(expected: np.ndarray, actual: np.ndarray) -> None:
    """Raises ValueError where two arrays to compare differ in shape."""
    if expected.shape != actual.shape:
        raise ValueError(
            f"Both arrays must have one shape. Received: {expected.shape} and {actual.shape}."
        )


def leads(logits: np.ndarray) -> np.ndarray:
    """By how much the best class leads, `(…)` of `(…, K)`; of a single class 0."""
    if logits.shape[-1] < 2:
        return np.zeros(logits.shape[:-1])
    best = np.partition(logits, -2, axis=-1)
    return best[..., -1] - best[..., -2]


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values), dtype=np.float64)))


def ratio(value: float, size: float) -> float:
    """A value as a share of a size; infinite where the size is 0."""
    return float(value / size) if size else float("inf") if value else 0.0
