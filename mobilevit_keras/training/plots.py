"""Pictures of a training: curves from its log, and which classes are taken for which."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilevit_keras.files import atomic_path

_MOST_NAMED_CLASSES = 40


def plot_curves(log: str | Path, picture: str | Path) -> None:
    """Draws loss and accuracy, training and validation, and the learning rate over the epochs.

    Args:
        log: A CSV file as Keras's `CSVLogger` writes it.
        picture: The PNG file to write.

    Raises:
        OSError: If the log cannot be read or the picture cannot be written.
    """
    from matplotlib.figure import Figure

    with open(log, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) + 1 for row in rows]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = zip(
        figure.subplots(1, 3),
        (
            ("Loss", "", (("loss", "training"), ("val_loss", "validation"))),
            ("Top-1 accuracy", "", (("top1", "training"), ("val_top1", "validation"))),
            ("Learning rate", "", (("learning_rate", ""),)),
        ),
        strict=True,
    )
    for axes, (title, unit, series) in panels:
        for name, label in series:
            if rows and rows[0].get(name):
                axes.plot(
                    epochs, [float(row[name]) for row in rows], marker=".", label=label or None
                )
        axes.set(title=title, xlabel="Epoch", ylabel=unit)
        axes.grid(alpha=0.3)
        if len(series) > 1 and axes.lines:
            axes.legend(frameon=False)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=120)


def plot_confusion(
    labels: np.ndarray, answers: np.ndarray, class_names: Sequence[str], picture: str | Path
) -> None:
    """Draws which classes are taken for which, as shares of the images of each class.

    Args:
        labels: Classes of the images, `(N,)`.
        answers: Classes that the model gave them, `(N,)`.
        class_names: Name of each class.
        picture: The PNG file to write.

    Raises:
        OSError: If the picture cannot be written.
    """
    from matplotlib.figure import Figure

    count = len(class_names)
    matrix = np.bincount(labels * count + answers, minlength=count**2).reshape(count, count)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # Names and numbers only where there is room for them.
    is_small = count <= _MOST_NAMED_CLASSES
    side = 2.5 + 0.45 * count if is_small else 10.0
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set(xlabel="Answer", ylabel="Class", title=f"{np.trace(matrix)} of {len(labels)} right")
    if is_small:
        axes.set_xticks(range(count), class_names, rotation=90)
        axes.set_yticks(range(count), class_names)
        for row, column in np.argwhere(matrix):
            axes.text(
                column,
                row,
                str(matrix[row, column]),
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.5 else "black",
            )
    figure.colorbar(image, label="Share of the class")
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=120)
