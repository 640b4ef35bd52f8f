"""What files answer that were converted wrongly, each in a way that conversions do go wrong."""

from collections.abc import Callable, Iterator

import numpy as np


def wrong_answers(
    run: Callable[[np.ndarray], np.ndarray], images: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name of a fault and the probabilities `(N, K)` that it gives.

    Args:
        run: From images `(N, H, W, 3)`, 0..255, to probabilities.
        images: Such images.
    """
    right = run(images)
    yield "constant", np.repeat(right[:1], len(right), axis=0)
    exchanged = right.copy()
    exchanged[:, [0, 1]] = right[:, [1, 0]]
    yield "two classes exchanged", exchanged
    yield "red and blue exchanged", run(np.ascontiguousarray(images[..., ::-1]))
    yield "image not divided by 255", run(255.0 * images)
    halved = np.sqrt(right)
    yield "logits halved", halved / halved.sum(axis=-1, keepdims=True)
    yield "not a number", np.where(np.arange(len(right))[:, None] == 1, np.nan, right)
