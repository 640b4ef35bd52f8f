"""Whether an exported file answers what its Keras model answers."""

import dataclasses
from typing import Any

import numpy as np

from mobilevit_keras.export.errors import CheckError


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far two sets of answers lie apart.

    Attributes:
        images: Number of images.
        max_abs_difference: Largest difference of a probability.
        top1_agreement: Share of the images with the same best class.
        clear_disagreements: Images with another best class although the expected best one leads by
            more than 0.03.
    """

    images: int
    max_abs_difference: float
    top1_agreement: float
    clear_disagreements: int

    def as_json(self) -> dict[str, Any]:
        """What a report holds of it."""
        return {
            "images": self.images,
            "max_abs_difference": self.max_abs_difference,
            "top1_agreement": self.top1_agreement,
        }


@dataclasses.dataclass(frozen=True)
class Bound:
    """How far apart they may lie.

    Attributes:
        max_difference: Of a probability.
        min_agreement: Share of the images whose best class must be the same, ties left out.
    """

    max_difference: float
    min_agreement: float = 0.0


# A sum next to the middle of two int8 codes may fall to either side, and what follows is then
# another value. Of 600 images to a weak int8 model, one was led by more than 0.02.
_TIE = 0.03


def compare(expected: np.ndarray, actual: np.ndarray) -> Parity:
    """Compares two arrays of probabilities, `(N, K)`.

    Raises:
        ValueError: If their shapes differ.
    """
    if expected.shape != actual.shape:
        raise ValueError(
            f"Both arrays must have one shape. Received: {expected.shape} and {actual.shape}."
        )
    agrees = expected.argmax(-1) == actual.argmax(-1)
    # What the other answer's best class lacks to the best one, in the expected answer.
    lead = expected.max(-1) - np.take_along_axis(expected, actual.argmax(-1)[:, None], -1)[:, 0]
    return Parity(
        len(expected),
        float(np.max(np.abs(expected - actual))),
        float(np.mean(agrees)),
        int(np.sum(lead > _TIE)),
    )


def check_parity(parity: Parity, bound: Bound) -> None:
    """Raises CheckError where the answers lie farther apart than `bound`."""
    # Written so that NaN fails too.
    if not parity.max_abs_difference <= bound.max_difference:
        raise CheckError(
            f"The written file must agree with Keras within {bound.max_difference:g}. The largest "
            f"difference on {parity.images} images is {parity.max_abs_difference:.3g}."
        )
    # One is no evidence where the images are few.
    if parity.clear_disagreements > max(1.0, (1.0 - bound.min_agreement) * parity.images):
        raise CheckError(
            f"The written file must give Keras's best class on {100 * bound.min_agreement:g}% of "
            f"the images. It gives another on {parity.clear_disagreements} of {parity.images}."
        )
