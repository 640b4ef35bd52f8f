"""Whether a file gives the probabilities that its Keras model gives."""

from typing import Any

import numpy as np

from mobilevit_keras.tasks.logit_comparison import CLEAR, EIGHT_BITS, Bound, LogitComparison, leads

# Of int8's softmax, whose answers are multiples of 1 / 256, half a step; of any other far below
# what float16 holds (6e-8 at the least), so that every class counts.
_INT8_GRID = 256
_INT8_FLOOR = 0.5 / _INT8_GRID
_FLOOR = 1e-8


class ProbabilityComparison(LogitComparison):
    """Two sets of probabilities, compared by their logarithms about the mean of the classes.

    These are the logits but for a constant, whatever the number of classes and however unsure the
    model.

    Args:
        expected: Keras's, `(N, K)`.
        actual: The file's.

    Raises:
        ValueError: If their shapes differ.
    """

    def __init__(self, expected: np.ndarray, actual: np.ndarray) -> None:
        self.expected, self.actual = expected, actual
        super().__init__(*logarithms(expected, actual))

    @property
    def max_abs_difference(self) -> float:
        """Largest difference of a probability."""
        return float(np.max(np.abs(self.expected - self.actual)))

    @property
    def top1_agreement(self) -> float:
        """Share of the images with the same best class."""
        return float(np.mean(self.expected.argmax(-1) == self.actual.argmax(-1)))

    def clear_images(self, margin: float) -> np.ndarray:
        """Which images have a best class that leads by `margin` times the spread, `(N,)`."""
        return leads(self._expected) > margin * self.spread

    def as_json(self) -> dict[str, Any]:
        return {
            "images": len(self.expected),
            "max_abs_difference": self.max_abs_difference,
            "top1_agreement": self.top1_agreement,
            "relative_difference": self.relative_difference,
            "differing_images": self.differing_images(EIGHT_BITS),
            "clear_images": int(self.clear_images(CLEAR * EIGHT_BITS.difference).sum()),
        }

    def summary(self) -> str:
        return (
            f"largest difference of a probability {self.max_abs_difference:.2e}, same class on "
            f"{100 * self.top1_agreement:.1f}% of {len(self.expected)} images"
        )

    def _unlike(self, bound: Bound) -> str | None:
        """Whether the file gives another class where Keras's leads clearly."""
        clear = self.clear_images(CLEAR * bound.difference)
        other = clear & (self.expected.argmax(-1) != self.actual.argmax(-1))
        if not other.any():
            return None
        return (
            "The file must give Keras's best class where that leads clearly. It gives another on "
            f"{other.sum()} of {clear.sum()} such images."
        )


def logarithms(expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of Keras's probabilities and a file's, both from the file's smallest step up."""
    on_grid = np.array_equal(actual * _INT8_GRID, np.rint(actual * _INT8_GRID))
    floor = _INT8_FLOOR if on_grid else _FLOOR
    return tuple(
        np.log(np.maximum(values.astype(np.float64), floor)) for values in (expected, actual)
    )
