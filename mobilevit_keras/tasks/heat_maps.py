"""Whether a classifier's file finds its answer where its Keras model finds it."""

from typing import Any

import numpy as np

from mobilevit_keras.tasks.logit_comparison import Bound, Spread, check_shapes
from mobilevit_keras.tasks.pixels import elsewhere
from mobilevit_keras.tasks.probabilities import ProbabilityComparison
from mobilevit_keras.tasks.task import Comparison


class HeatMapComparison(Spread):
    """Two sets of heat maps, compared as they are: of one class a constant would show.

    Args:
        expected: Keras's, `(N, h, w, K)`.
        actual: The file's.

    Raises:
        ValueError: If their shapes differ.
    """

    def __init__(self, expected: np.ndarray, actual: np.ndarray) -> None:
        check_shapes(expected, actual)
        super().__init__(expected, actual)

    def _unlike(self, bound: Bound) -> str | None:
        return elsewhere(self._expected, self._actual)


class ExplainedComparison(Comparison):
    """Probabilities and where they come from; both must be right.

    Args:
        probabilities: Of the answers.
        heat_map: Of their heat maps.
    """

    def __init__(self, probabilities: ProbabilityComparison, heat_map: HeatMapComparison) -> None:
        self.probabilities, self.heat_map = probabilities, heat_map

    def as_json(self) -> dict[str, Any]:
        difference = self.heat_map.relative_difference
        return self.probabilities.as_json() | {"heat_map_relative_difference": difference}

    def summary(self) -> str:
        return (
            f"{self.probabilities.summary()}, heat maps off by "
            f"{100 * self.heat_map.relative_difference:.2g}% of what changes"
        )

    def problem(self, file_format: str, precision: str) -> str | None:
        problem = self.probabilities.problem(file_format, precision)
        if problem is not None:
            return problem
        problem = self.heat_map.problem(file_format, precision)
        return None if problem is None else f"Of the heat map: {problem}"
