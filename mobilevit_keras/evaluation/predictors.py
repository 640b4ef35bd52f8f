"""Model files of every format, opened for evaluation."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mobilevit_keras.export.report import LABELS_FILE, report_path
from mobilevit_keras.models import MINIMUM_SIZE, Preprocessing, load_model

Batches = Iterable[np.ndarray]
"""Batches of images, float32 `(B, H, W, 3)`, RGB in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model ready to classify.

    Attributes:
        path: The `.keras` or `.tflite` file, or the TF.js folder.
        preprocessing: How its images are made.
        size: Height and width of its images.
        num_classes: Number of classes K.
        class_names: Their names in the order of the answers; None where only their number is known.
        num_bytes: Size on disk.
        run: Takes `Batches`, returns probabilities `(N, K)` and milliseconds of each image `(N,)`.
    """

    path: Path
    preprocessing: Preprocessing
    size: tuple[int, int]
    num_classes: int
    class_names: tuple[str, ...] | None
    num_bytes: int
    run: Callable[[Batches], tuple[np.ndarray, np.ndarray]]


def open_predictor(path: str | Path, size: int | None = None) -> Predictor:
    """Opens a `.keras` file, a `.tflite` file or a TF.js folder, the latter two as exported.

    Args:
        path: The file or folder.
        size: Side of the square input in pixels; the file's own by default.

    Raises:
        ValueError: If it is of no such format, no MobileViT, or of another size.
        FileNotFoundError: If there is no such file or folder.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"A model is needed. Received: {path}, which does not exist.")
    if path.suffix == ".keras":
        return _open_keras(path, size)
    if path.suffix == ".tflite":
        return _open_exported(path, path.parent / LABELS_FILE, _run_tflite, size)
    if (path / "model.json").is_file():
        return _open_exported(path, path / LABELS_FILE, _run_tfjs, size)
    raise ValueError(
        "A model must be a .keras file, a .tflite file or a TF.js folder with its model.json. "
        f"Received: {path}."
    )


def _open_keras(path: Path, size: int | None) -> Predictor:
    model = load_model(path)
    preprocessing = model.preprocessing
    if size is not None:
        if size < MINIMUM_SIZE:
            raise ValueError(f"A size must be at least {MINIMUM_SIZE} pixels. Received: {size}.")
        preprocessing = preprocessing.at_size(size)

    def run(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
        import tensorflow as tf

        @tf.function(reduce_retracing=True)
        def forward(images):
            return tf.nn.softmax(model(images, training=False))

        outputs, milliseconds = [], []
        for images in batches:
            if not outputs:
                forward(images)  # traces, which is no part of an image's time
            began_at = time.perf_counter()
            outputs.append(forward(images).numpy())
            elapsed = 1000.0 * (time.perf_counter() - began_at)
            milliseconds.extend([elapsed / len(images)] * len(images))
        return np.concatenate(outputs), np.array(milliseconds)

    side = preprocessing.crop_size
    return Predictor(
        path,
        preprocessing,
        (side, side),
        model.num_classes,
        model.class_names,
        path.stat().st_size,
        run,
    )


def _open_exported(path: Path, labels: Path, run, size: int | None) -> Predictor:
    target = report_path(path)
    if not target.is_file():
        raise ValueError(
            f"{path}: the report of its conversion must lie beside a model. "
            f"Received: no {target.name}."
        )
    report = json.loads(target.read_text(encoding="utf-8"))
    own = tuple(report["size"])
    if size is not None and own != (size, size):
        raise ValueError(
            f"An exported model has one size, here {own[0]}x{own[1]}. Received: {size}."
        )
    names = tuple(labels.read_text("utf-8").splitlines()) if labels.is_file() else ()
    return Predictor(
        path,
        Preprocessing(**report["preprocessing"]).at_size(own),
        own,
        report["num_classes"],
        # Another model's may lie in the same folder.
        names if len(names) == report["num_classes"] else None,
        report["bytes"],
        # Exported models take 0..255.
        lambda batches: run(path, (images * 255.0 for images in batches)),
    )


def _run_tflite(path: Path, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    from mobilevit_keras.export import run_tflite

    results = [run_tflite(path, images) for images in batches]
    return (
        np.concatenate([result.probabilities for result in results]),
        np.concatenate([result.milliseconds for result in results]),
    )


def _run_tfjs(path: Path, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    from mobilevit_keras.export import run_tfjs

    result = run_tfjs(path, batches)
    return result.probabilities, result.milliseconds
