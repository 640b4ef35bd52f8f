"""What a runtime answered."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Results:
    """Outputs of an exported model on a number of images.

    Attributes:
        outputs: float32 arrays `(N, …)` by the names of the outputs.
        milliseconds: Time of each inference, `(N,)`.
    """

    outputs: Mapping[str, np.ndarray]
    milliseconds: np.ndarray


def concatenate(results: Iterable[Results]) -> Results:
    """The results of several batches as one."""
    results = list(results)
    return Results(
        {name: np.concatenate([r.outputs[name] for r in results]) for name in results[0].outputs},
        np.concatenate([result.milliseconds for result in results]),
    )


def check_images(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns `images` unless their shape is not `(N, height, width, 3)`.

    Raises:
        ValueError: If it is another, or there are none.
    """
    if images.ndim != 4 or images.shape[1:] != (height, width, 3) or not len(images):
        raise ValueError(
            f"Images must be (N, {height}, {width}, 3). Received: {tuple(images.shape)}."
        )
    return images
