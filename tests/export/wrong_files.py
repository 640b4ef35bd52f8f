"""What files answer that were converted wrongly, each in a way that conversions do go wrong."""

from collections.abc import Callable, Iterator

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]


def wrong_answers(run: Run, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name of a fault and the probabilities `(N, K)` that it gives.

    Args:
        run: From images `(N, H, W, 3)`, 0..255, to probabilities.
        images: Such images.
    """
    right = run(images)
    yield from _wrong_everywhere(run, images)
    halved = np.sqrt(right)
    yield "logits halved", halved / halved.sum(axis=-1, keepdims=True)


def wrong_maps(run: Run, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same of maps of logits `(N, h, w, K)`."""
    right = run(images)
    yield from _wrong_everywhere(run, images)
    yield "logits halved", 0.5 * right
    for name, axis, step in (("down", 1, 1), ("up", 1, -1), ("right", 2, 1), ("left", 2, -1)):
        # What comes in at the edge is what was there.
        cells = np.clip(np.arange(right.shape[axis]) - step, 0, right.shape[axis] - 1)
        yield f"one cell {name}", np.take(right, cells, axis)
    yield "mirrored", np.ascontiguousarray(right[:, :, ::-1])
    average = right.mean(axis=(1, 2), keepdims=True)
    yield "the same everywhere", np.broadcast_to(average, right.shape)


def _wrong_everywhere(run: Run, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    right = run(images)
    yield "constant", np.repeat(right[:1], len(right), axis=0)
    exchanged = right.copy()
    exchanged[..., [0, 1]] = right[..., [1, 0]]
    yield "two classes exchanged", exchanged
    yield "red and blue exchanged", run(np.ascontiguousarray(images[..., ::-1]))
    yield "image not divided by 255", run(255.0 * images)
    which = np.arange(len(right)).reshape(-1, *[1] * (right.ndim - 1))
    yield "not a number", np.where(which == 1, np.nan, right)
