"""Accuracy of exported files."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.export.results import Results
from mobilevit_keras.export.tfjs_runner import run_tfjs
from mobilevit_keras.export.tflite_runner import open_interpreter, run_tflite


def export_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the images that a `.tflite` file takes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TFLite model.
    """
    _, height, width, _ = open_interpreter(path).get_input_details()[0]["shape"]
    return int(height), int(width)


def evaluate_export(
    path: str | Path, batches: Iterable[tuple[np.ndarray, np.ndarray]], num_threads: int = 1
) -> dict[str, Any]:
    """Measures an exported classifier on labelled images.

    Args:
        path: A `.tflite` file or a TF.js model's folder.
        batches: Images `(B, H, W, 3)` in [0, 1] and labels `(B,)`, such as `evaluation_dataset`
            gives.
        num_threads: Threads of an inference, of a `.tflite` file.

    Returns:
        "top1" and "top5" (shares), "images" and "milliseconds_per_image" (the median).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there are no images, or they have another size.
    """
    labels: list[np.ndarray] = []

    def images() -> Iterator[np.ndarray]:
        for batch, batch_labels in batches:
            labels.append(np.asarray(batch_labels))
            yield 255.0 * np.asarray(batch, np.float32)

    results = _run(path, images(), num_threads)
    if not len(results.milliseconds):
        raise ValueError(f"There must be images to evaluate {path} on. Received: none.")
    return {
        **accuracy(results.probabilities, np.concatenate(labels)),
        "milliseconds_per_image": float(np.median(results.milliseconds)),
    }


def _run(path: str | Path, batches: Iterator[np.ndarray], num_threads: int) -> Results:
    if Path(path).is_dir():
        return run_tfjs(path, batches)
    parts = [run_tflite(path, batch, num_threads) for batch in batches]
    if not parts:
        return Results(np.zeros((0, 1), np.float32), np.zeros(0))
    return Results(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.milliseconds for part in parts]),
    )


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Shares of the images whose class is the first, or among the first five.

    Args:
        probabilities: `(N, K)`.
        labels: `(N,)`.
    """
    # Stable, so that ties fall to the lower class in every runtime.
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    hits = order == labels[:, None]
    return {
        "top1": float(np.mean(hits[:, 0])),
        "top5": float(np.mean(hits[:, :5].any(axis=-1))),
        "images": len(labels),
    }
