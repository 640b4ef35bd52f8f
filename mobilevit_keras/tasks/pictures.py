"""Pictures of an evaluation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilevit_keras.files import atomic_path

_MOST_NAMED_CLASSES = 40


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
