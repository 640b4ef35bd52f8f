from collections.abc import Iterable
from pathlib import Path

import numpy as np
from keras import ops

from mobilevit_keras.data import load_images
from mobilevit_keras.models import MobileViTImageClassifier


def predict_images(
    model: MobileViTImageClassifier,
    paths: Iterable[str | Path],
    batch_size: int = 32,
    top: int = 5,
) -> list[tuple[Path, list[tuple[str, float]]]]:
    """Classifies image files, prepared as the model's weights want it.

    Args:
        model: A classifier; without class names the classes are called "0", "1" and so on.
        paths: Image files.
        batch_size: Images at once.
        top: Number of the most probable classes to answer with; no more than there are.

    Returns:
        For each file in the given order its path and `(class name, probability)` pairs, most
        probable first.

    Raises:
        ValueError: If a file is no image, or a number is not positive.
        OSError: If a file cannot be read.
    """
    if batch_size < 1 or top < 1:
        raise ValueError(
            f"`batch_size` and `top` must be positive. Received: {batch_size} and {top}."
        )
    names = model.class_names or [str(index) for index in range(model.num_classes)]
    wanted = model.preprocessing
    paths = [Path(path) for path in paths]
    answers = []
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        images = load_images(batch, wanted.short_side, wanted.crop_size, wanted.interpolation)
        probabilities = np.asarray(ops.softmax(model(images, training=False)))
        for path, row in zip(batch, probabilities, strict=True):
            best = np.argsort(-row, kind="stable")[:top]
            answers.append((path, [(names[index], float(row[index])) for index in best]))
    return answers
