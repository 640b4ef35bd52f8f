"""Model files of every format, opened for evaluation."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from mobilevit_keras.commands import size_text
from mobilevit_keras.description import read_description
from mobilevit_keras.export.results import Results
from mobilevit_keras.export.tfjs_runner import iterate_tfjs
from mobilevit_keras.export.tflite_runner import iterate_tflite
from mobilevit_keras.models import Preprocessing, load_model
from mobilevit_keras.paper import MINIMUM_SIZE
from mobilevit_keras.tasks import Task, get_task, task_of

Batches = Iterable[np.ndarray]
"""Batches of images, float32 `(B, H, W, 3)`, RGB in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model ready to answer.

    Attributes:
        path: The `.keras` or `.tflite` file, or the TF.js folder.
        task: What it answers.
        preprocessing: How its images are made.
        size: Height and width of its images.
        num_classes: Number of its classes; None for a task without.
        class_names: Their names in the order of the answers; None where there are none.
        precision: How its numbers are stored.
        num_bytes: Size on disk.
        run: Takes `Batches`, yields each one's `Results` before it takes the next.
    """

    path: Path
    task: Task
    preprocessing: Preprocessing
    size: tuple[int, int]
    num_classes: int | None
    class_names: tuple[str, ...] | None
    precision: str
    num_bytes: int
    run: Callable[[Batches], Iterator[Results]]


def open_predictor(path: str | Path, size: int | tuple[int, int] | None = None) -> Predictor:
    """Opens a `.keras` file, a `.tflite` file or a TF.js folder, the latter two as exported.

    Args:
        path: The file or folder.
        size: Side of the square input in pixels, or its height and width; the file's own by
            default.

    Raises:
        ValueError: If it is of no such format, no MobileViT, or of another size.
        FileNotFoundError: If there is no such file or folder.
    """
    path = Path(path)
    size = (size, size) if isinstance(size, int) else size
    if not path.exists():
        raise FileNotFoundError(f"A model is needed. Received: {path}, which does not exist.")
    if path.suffix == ".keras":
        return _open_keras(path, size)
    if path.suffix == ".tflite":
        return _open_exported(path, iterate_tflite, path.stat().st_size, size)
    if (path / "model.json").is_file():
        num_bytes = sum(file.stat().st_size for file in path.iterdir() if _is_the_models(file))
        return _open_exported(path, iterate_tfjs, num_bytes, size)
    raise ValueError(
        "A model must be a .keras file, a .tflite file or a TF.js folder with its model.json. "
        f"Received: {path}."
    )


def _is_the_models(file: Path) -> bool:
    return file.name == "model.json" or file.suffix == ".bin"


def _open_keras(path: Path, size: tuple[int, int] | None) -> Predictor:
    model = load_model(path)
    task = task_of(model)
    preprocessing = model.preprocessing
    if size is not None:
        if min(size) < MINIMUM_SIZE:
            raise ValueError(
                f"A size must be at least {MINIMUM_SIZE} pixels. Received: {size_text(size)}."
            )
        preprocessing = preprocessing.at_size(size)

    def run(batches: Batches) -> Iterator[Results]:
        import tensorflow as tf

        @tf.function(reduce_retracing=True)
        def forward(images):
            return task.serve(model(images, training=False))

        is_first = True
        for images in batches:
            if is_first:
                forward(images)  # traces, which is no part of an image's time
                is_first = False
            began_at = time.perf_counter()
            outputs = {name: values.numpy() for name, values in forward(images).items()}
            elapsed = 1000.0 * (time.perf_counter() - began_at)
            yield Results(outputs, np.full(len(images), elapsed / len(images)))

    return Predictor(
        path=path,
        task=task.for_size(model, preprocessing.sides if size is None else size),
        preprocessing=preprocessing,
        size=preprocessing.sides if size is None else size,
        num_classes=getattr(model, "num_classes", None),
        class_names=model.class_names,
        precision=str(model.backbone.config["dtype"]),
        num_bytes=path.stat().st_size,
        run=run,
    )


def _open_exported(path: Path, iterate, num_bytes: int, size: tuple[int, int] | None) -> Predictor:
    description = read_description(path)
    own = tuple(description["size"])
    if size is not None and own != size:
        raise ValueError(
            f"An exported model has one size, here {own[0]}x{own[1]}. Received: {size_text(size)}."
        )
    names = description.get("class_names")
    return Predictor(
        path=path,
        task=get_task(description["task"]).for_description(description),
        preprocessing=Preprocessing(**description["preprocessing"]),
        size=own,
        num_classes=None if names is None else len(names),
        class_names=None if names is None else tuple(names),
        precision=description["precision"],
        num_bytes=num_bytes,
        # Exported models take 0..255.
        run=lambda batches: iterate(path, (images * 255.0 for images in batches)),
    )
