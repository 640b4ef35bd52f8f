"""Pictures of a training: curves from its log."""

import csv
from pathlib import Path

from mobilevit_keras.files import atomic_path


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
