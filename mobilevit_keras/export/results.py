"""What a runtime answered."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Results:
    """Outputs of an exported model on a number of images.

    Attributes:
        probabilities: float32 `(N, K)`.
        milliseconds: Time of each inference, `(N,)`.
    """

    probabilities: np.ndarray
    milliseconds: np.ndarray


def check_images(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns `images` unless their shape is not `(N, height, width, 3)`.

    Raises:
        ValueError: If it is another.
    """
    if images.ndim != 4 or images.shape[1:] != (height, width, 3):
        raise ValueError(
            f"Images must be (N, {height}, {width}, 3). Received: {tuple(images.shape)}."
        )
    return images
