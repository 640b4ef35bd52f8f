import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import numpy as np

from mobilevit_keras.data import load_images
from mobilevit_keras.models import VisionTask
from mobilevit_keras.tasks import task_of

Answer = tuple[Path, list]
"""A file's path and what the model answers: of a classifier `(class name, probability)` pairs, most
probable first."""


def predict_images(
    model: VisionTask,
    paths: Iterable[str | Path],
    batch_size: int = 32,
    top: int = 5,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> list[Answer]:
    """Answers for image files, prepared as the model's weights want it.

    Args:
        model: A trained model; without class names the classes are called "0", "1" and so on.
        paths: Image files.
        batch_size: Images at once.
        top: Number of the most probable answers; no more than there are.
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
    model: VisionTask,
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
    task = task_of(model)
    paths = [Path(path) for path in paths]
    for start in range(0, len(paths), batch_size):
        read = list(_read(model, paths[start : start + batch_size], unreadable))
        if not read:
            continue
        images = np.stack([image for _, image in read])
        outputs = task.serve(model(images, training=False))
        arrays = {name: keras.ops.convert_to_numpy(values) for name, values in outputs.items()}
        answers = task.answers(arrays, model.class_names, top)
        yield from zip((path for path, _ in read), answers, strict=True)


def _read(model, paths: list[Path], unreadable) -> Iterator[tuple[Path, np.ndarray]]:
    """The files that can be read, as the model takes them."""
    wanted = dataclasses.asdict(model.preprocessing)
    for path in paths:
        try:
            (image,) = load_images([path], **wanted)
        except (OSError, ValueError) as error:
            if unreadable is None:
                raise
            unreadable(path, error)
        else:
            yield path, image
