"""Whether a file finds the objects that its Keras model finds."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilevit_keras.boxes import BoxDecoding, overlaps, suppress
from mobilevit_keras.tasks.logit_comparison import (
    BOUNDS,
    EIGHT_BITS,
    Bound,
    Spread,
    check_shapes,
)
from mobilevit_keras.tasks.probabilities import logarithms
from mobilevit_keras.tasks.task import Comparison, Outputs

Found = Mapping[str, np.ndarray]
"""What `suppress` gives of an image."""

LOCATION_NAME = "location"
SCORE_NAME = "score"

# A box is clearly there from the one score on; what may be the same box elsewhere, from the other.
_CLEAR_SCORE = 0.4
UNSURE_SCORE = 0.15

# What scores of boxes may be off by, as a part of what logits may of their spread.
_SCORES = 0.5

# From this intersection over union on two boxes of one class are the same object's.
_SAME = 0.5


class _Scores(Spread):
    """Scores of every anchor by their logarithms about each class's mean: logits but for constants.

    Args:
        expected: Keras's, `(N, A, K)`.
        actual: The file's.
    """

    def __init__(self, expected: np.ndarray, actual: np.ndarray) -> None:
        expected, actual = logarithms(expected, actual)
        middle = expected.mean(axis=(0, 1))
        super().__init__(expected - middle, actual - middle)


class _Places(Spread):
    """Encoded boxes, each counted by how sure Keras is that there is something.

    Where nothing is, nobody has said where the box should be.

    Args:
        expected: Keras's, `(N, A, 4)`.
        actual: The file's.
        sureness: Keras's probability that there is an object, `(N, A)`.
    """

    _part = "number"

    def __init__(self, expected: np.ndarray, actual: np.ndarray, sureness: np.ndarray) -> None:
        super().__init__(expected * sureness[..., None], actual * sureness[..., None])


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The boxes of two sets that belong together, over all images.

    Attributes:
        clear: Boxes that are clearly there, of either set.
        alone: How many of them the other set lacks.
        overlaps: Intersections over union of those that it has.
        score_differences: And by how much their scores differ.
    """

    clear: int
    alone: int
    overlaps: np.ndarray
    score_differences: np.ndarray

    @property
    def agreement(self) -> float:
        """Share of the boxes clearly there that both sets have; 1 of none."""
        return 1.0 - self.alone / self.clear if self.clear else 1.0

    @property
    def mean_iou(self) -> float | None:
        """Mean intersection over union of the boxes that both have; None of none."""
        return float(self.overlaps.mean()) if self.overlaps.size else None

    def problem(self, bound: Bound) -> str | None:
        """What makes them too unlike: a sentence, or None."""
        if 1.0 - self.agreement > bound.other_boxes:
            return (
                "The file must find the boxes that are clearly there, and no others. Of "
                f"{self.clear} in its answers and those it is compared with, {self.alone} are "
                f"alone; {100 * bound.other_boxes:.2g}% may be."
            )
        # The median: of two boxes of one object that are as sure as each other either may stay.
        if self.overlaps.size and np.median(self.overlaps) < bound.overlap:
            return (
                "The file's boxes must lie where they should. Their median intersection over union "
                f"is {100 * np.median(self.overlaps):.3g}%, and must be {100 * bound.overlap:.3g}%."
            )
        # Of int8's scores most are zero, which hides from all of them what those of boxes are.
        off = np.median(self.score_differences) if self.score_differences.size else 0.0
        if off > _SCORES * bound.difference:
            return (
                "The file must be as sure of its boxes as it should. It is off by "
                f"{100 * off:.2g} points, and may be by {100 * _SCORES * bound.difference:.2g}."
            )
        return None


class BoxComparison(Comparison):
    """The boxes that a file finds, beside those that it should.

    One that is clearly there must be found by the other as well, of its class and in its place, if
    less surely: a score next to a threshold may fall on either side of it. That goes both ways, so
    that a file may invent nothing either.

    Args:
        expected: What should be found in each image, from `UNSURE_SCORE` on.
        actual: What the file finds.
    """

    def __init__(self, expected: Sequence[Found], actual: Sequence[Found]) -> None:
        self._images, self._found = len(expected), (expected, actual)

    @functools.cached_property
    def pairs(self) -> Pairs:
        """The boxes of both that belong together."""
        return pair_boxes(*self._found)

    @property
    def box_agreement(self) -> float:
        """Share of the boxes clearly there, in either, that both find; 1 of none."""
        return self.pairs.agreement

    @property
    def mean_iou(self) -> float | None:
        """Mean intersection over union of the boxes that both find; None where there are none."""
        return self.pairs.mean_iou

    @property
    def mean_score_difference(self) -> float | None:
        """Mean difference of their scores, likewise."""
        differences = self.pairs.score_differences
        return float(differences.mean()) if differences.size else None

    def as_json(self) -> dict[str, Any]:
        return {
            "images": self._images,
            "clear_boxes": self.pairs.clear,
            "box_agreement": self.box_agreement,
            "mean_iou": self.mean_iou,
            "mean_score_difference": self.mean_score_difference,
        }

    def summary(self) -> str:
        if self.mean_iou is None:
            return f"no boxes on {self._images} images"
        return (
            f"{100 * self.box_agreement:.1f}% of the boxes found by both, mean IoU "
            f"{100 * self.mean_iou:.1f}%, scores off by {100 * self.mean_score_difference:.2g} "
            f"points, on {self._images} images"
        )

    def problem(self, file_format: str, precision: str) -> str | None:
        return self.pairs.problem(BOUNDS[file_format, precision])


class DetectionComparison(BoxComparison):
    """What a file says of every anchor, and the boxes that a user sees of it, beside Keras's.

    Boxes are those after suppression.

    Args:
        expected: Keras's {"location": `(N, A, 4)`, "score": `(N, A, K)`}.
        actual: The file's.
        decoding: What makes boxes of them.

    Raises:
        ValueError: If their shapes differ.
    """

    def __init__(self, expected: Outputs, actual: Outputs, decoding: BoxDecoding) -> None:
        for name in (LOCATION_NAME, SCORE_NAME):
            check_shapes(expected[name], actual[name])
        self._images = len(expected[SCORE_NAME])
        self._expected, self._actual, self._decoding = expected, actual, decoding
        self.scores = _Scores(expected[SCORE_NAME], actual[SCORE_NAME])
        sureness = expected[SCORE_NAME].sum(axis=-1)
        self.places = _Places(expected[LOCATION_NAME], actual[LOCATION_NAME], sureness)

    @functools.cached_property
    def pairs(self) -> Pairs:
        # Not before anybody asks: of what is no number there are no boxes.
        found = (
            suppress(self._decoding.boxes(each[LOCATION_NAME]), each[SCORE_NAME], UNSURE_SCORE)
            for each in (self._expected, self._actual)
        )
        return pair_boxes(*found)

    @property
    def max_abs_difference(self) -> float:
        """Largest difference of a score."""
        return float(np.max(np.abs(self._expected[SCORE_NAME] - self._actual[SCORE_NAME])))

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {
            "max_abs_difference": self.max_abs_difference,
            "relative_difference": self.scores.relative_difference,
            "relative_difference_of_places": self.places.relative_difference,
            "differing_images": self.scores.differing_images(EIGHT_BITS),
        }

    def summary(self) -> str:
        share = 100 * self.scores.relative_difference
        return f"{super().summary()}; logits off by {share:.2g}% of what changes"

    def problem(self, file_format: str, precision: str) -> str | None:
        if not np.all(np.isfinite(self._actual[LOCATION_NAME])):
            return "The file must answer with numbers. It gives NaN or infinity."
        return (
            self.scores.problem(file_format, precision)
            or self.places.problem(file_format, precision)
            or super().problem(file_format, precision)
        )


def pair_boxes(ours: Sequence[Found], theirs: Sequence[Found]) -> Pairs:
    """Pairs up what two find in the same images; see `Pairs`.

    Args:
        ours, theirs: What `suppress` gives of each image, from `UNSURE_SCORE` on.
    """
    clear, shared, differences = 0, [np.zeros(0)], [np.zeros(0)]
    for pair in zip(ours, theirs, strict=True):
        for some, others in (pair, pair[::-1]):
            is_clear = some["scores"] > _CLEAR_SCORE
            clear += int(is_clear.sum())
            if not is_clear.any() or not len(others["labels"]):
                continue
            of_class = some["labels"][is_clear, None] == others["labels"]
            overlap = overlaps(some["boxes"][is_clear], others["boxes"]) * of_class
            best = overlap.argmax(axis=1)
            found = overlap.max(axis=1) >= _SAME
            shared.append(overlap.max(axis=1)[found])
            off = np.abs(some["scores"][is_clear] - others["scores"][best])
            differences.append(off[found])
    shared = np.concatenate(shared)
    return Pairs(clear, clear - len(shared), shared, np.concatenate(differences))
