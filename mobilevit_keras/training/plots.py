"""Pictures of a training: curves from its log."""

from collections.abc import Sequence
from pathlib import Path

from mobilevit_keras.files import atomic_path
from mobilevit_keras.training.epoch_log import read_log


def plot_curves(
    log: str | Path, picture: str | Path, metrics: Sequence[tuple[str, str]] = ()
) -> None:
    """Draws loss and metrics, training and validation, and the learning rate over the epochs.

    Args:
        log: A CSV file as `EpochLog` writes it.
        metrics: Title and name of each metric.
        picture: The PNG file to write.

    Raises:
        OSError: If the log cannot be read or the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = read_log(log)
    series = [("Loss", "loss"), *metrics]
    panels = [(title, ((k, "training"), (f"val_{k}", "validation"))) for title, k in series]
    panels.append(("Learning rate", (("learning_rate", ""),)))
    figure = Figure(figsize=(4 * len(panels), 3.6), layout="constrained")
    every_axes = figure.subplots(1, len(panels))
    for axes, (title, series) in zip(every_axes, panels, strict=True):
        for name, label in series:
            # Not every epoch has a validation.
            points = [(int(row["epoch"]) + 1, float(row[name])) for row in rows if row.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label or None)
        axes.set(title=title, xlabel="Epoch")
        # There is no epoch and a half.
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(series) > 1 and axes.lines:
            axes.legend(frameon=False)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=120)
