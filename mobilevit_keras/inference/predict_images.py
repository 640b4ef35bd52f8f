from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from keras import ops

from mobilevit_keras.data import load_images
from mobilevit_keras.models import MobileViTImageClassifier

Answer = tuple[Path, list[tuple[str, float]]]
"""A file's path and `(class name, probability)` pairs, most probable first."""


def predict_images(
    model: MobileViTImageClassifier,
    paths: Iterable[str | Path],
    batch_size: int = 32,
    top: int = 5,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> list[Answer]:
    """Classifies image files, prepared as the model's weights want it.

    Args:
        model: A classifier; without class names the classes are called "0", "1" and so on.
        paths: Image files.
        batch_size: Images at once.
        top: Number of the most probable classes to answer with; no more than there are.
        unreadable: Told of each file that cannot be read and why; it is left out. Without it the
            first one is an error.

    Returns:
        An `Answer` for each file in the given order.

    Raises:
        ValueError: If a file is no image, or a number is not positive.
        OSError: If a file cannot be read.
    """
    return list(iterate_predictions(model, paths, batch_size, top, unreadable))


def iterate_predictions(
    model: MobileViTImageClassifier,
    paths: Iterable[str | Path],
    batch_size: int = 32,
    top: int = 5,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> Iterator[Answer]:
    """The same one batch after another; see `predict_images`."""
    if batch_size < 1 or top < 1:
        raise ValueError(
            f"`batch_size` and `top` must be positive. Received: {batch_size} and {top}."
        )
    names = model.class_names or [str(index) for index in range(model.num_classes)]
    paths = [Path(path) for path in paths]
    for start in range(0, len(paths), batch_size):
        read = list(_read(model, paths[start : start + batch_size], unreadable))
        if not read:
            continue
        images = np.stack([image for _, image in read])
        probabilities = np.asarray(ops.softmax(model(images, training=False)))
        for (path, _), row in zip(read, probabilities, strict=True):
            best = np.argsort(-row, kind="stable")[:top]
            yield path, [(names[index], float(row[index])) for index in best]


def _read(model, paths: list[Path], unreadable) -> Iterator[tuple[Path, np.ndarray]]:
    """The files that can be read, as the model takes them."""
    wanted = model.preprocessing
    for path in paths:
        try:
            (image,) = load_images(
                [path], wanted.short_side, wanted.crop_size, wanted.interpolation
            )
        except (OSError, ValueError) as error:
            if unreadable is None:
                raise
            unreadable(path, error)
        else:
            yield path, image
