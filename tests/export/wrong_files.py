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


def wrong_detections(
    run: Callable[[np.ndarray], dict[str, np.ndarray]], images: np.ndarray
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The same of a detector's {"location": `(N, A, 4)`, "score": `(N, A, K)`}."""
    right = run(images)
    # Both outputs side by side go through what goes wrong with any.
    count = right["location"].shape[-1]
    joined = _wrong_everywhere(
        lambda pixels: np.concatenate(
            [run(pixels)[name] for name in ("location", "score")], axis=-1
        ),
        images,
        count,
    )
    for name, answers in joined:
        yield name, {"location": answers[..., :count], "score": answers[..., count:]}
    location, score = right["location"], right["score"]
    yield "constant boxes", right | {"location": np.repeat(location[:1], len(location), axis=0)}
    yield "x and y exchanged", right | {"location": location[..., [1, 0, 3, 2]]}
    yield "boxes of half the units", right | {"location": 0.5 * location}
    yield "boxes shifted", right | {"location": location + np.array([0.0, 2.5, 0, 0], "f4")}
    yield "one anchor on", {name: np.roll(values, 1, 1) for name, values in right.items()}
    yield "scores halved", right | {"score": 0.5 * score}
    yield (
        "background not cut off",
        right
        | {"score": np.concatenate([1.0 - score.sum(-1, keepdims=True), score[..., :-1]], -1)},
    )
    yield "no box", right | {"location": np.full_like(location, np.inf)}


def _wrong_everywhere(
    run: Run, images: np.ndarray, first_class: int = 0
) -> Iterator[tuple[str, np.ndarray]]:
    right = run(images)
    yield "constant", np.repeat(right[:1], len(right), axis=0)
    exchanged = right.copy()
    pair = [first_class, first_class + 1]
    exchanged[..., pair] = right[..., pair[::-1]]
    yield "two classes exchanged", exchanged
    yield "red and blue exchanged", run(np.ascontiguousarray(images[..., ::-1]))
    yield "image not divided by 255", run(255.0 * images)
    which = np.arange(len(right)).reshape(-1, *[1] * (right.ndim - 1))
    yield "not a number", np.where(which == 1, np.nan, right)
