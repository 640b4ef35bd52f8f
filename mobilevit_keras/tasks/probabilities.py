"""Whether a file gives the probabilities that its Keras model gives."""

from typing import Any

import numpy as np

from mobilevit_keras.tasks.logit_comparison import CLEAR, EIGHT_BITS, Bound, LogitComparison, leads

# Of int8's answers half a step of their grid; of any other far below what float16 holds (6e-8 at
# the least), so that every class counts.
_SOFTMAX_STEP = 1.0 / 256.0
_FLOOR = 1e-8
# Answers of fewer steps may lie on a grid by chance.
_FEWEST_STEPS = 32


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
    step = _step(actual)
    floor = _FLOOR if step is None else 0.5 * step
    return tuple(
        np.log(np.maximum(values.astype(np.float64), floor)) for values in (expected, actual)
    )


def _step(values: np.ndarray) -> float | None:
    """The step of the int8 grid that values lie on, from 0 up; None where they lie on none.

    It is that of int8's softmax or, where something follows that, the smallest value that occurs.
    """
    positive = values[values > 0].astype(np.float64)
    for step, fewest in ((_SOFTMAX_STEP, 0), (positive.min(initial=1.0), _FEWEST_STEPS)):
        codes = positive / step
        # Float32 holds no product with a step exactly.
        is_grid = np.all(np.abs(codes - np.rint(codes)) < 1e-4)
        if is_grid and fewest <= codes.max(initial=0.0) < 256.5:
            return step
    return None
