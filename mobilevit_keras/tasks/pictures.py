"""Pictures of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mobilevit_keras.data.preview import font_for
from mobilevit_keras.files import atomic_path
from mobilevit_keras.metrics.average_precision import (
    IOU_THRESHOLDS,
    RECALLS,
    AveragePrecision,
)

_MOST_NAMED_CLASSES = 40
_MOST_CURVES = 20

# Of the sheets of pictures, in pixels.
_MARGIN = 8
_LINE = 18
_PANEL = 320

# Above this a count is written as a share: the pixels of a class are many millions.
_MOST_COUNTED = 99_999


def check_plot(picture: str | Path) -> None:
    """Raises an error where a plot could not be written once what it shows is measured.

    Raises:
        ValueError: If the extension of its file names no format.
        NotADirectoryError: If it is to lie in a file.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    # Of a name without one matplotlib would make another name.
    if Path(picture).suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"A picture needs a known extension such as .png. Received: {picture}.")
    above = next(place for place in Path(picture).absolute().parents if place.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"A picture needs a folder. Received: {picture}, in a file.")


def plot_confusion(
    matrix: np.ndarray,
    class_names: Sequence[str],
    picture: str | Path,
    title: str,
    figures: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Draws which classes are taken for which, as shares of each class.

    Args:
        matrix: How often each class got each answer, `(K, K)`; true classes in rows.
        class_names: Name of each class.
        picture: The file to write; its extension says the format.
        title: What stands above it.
        figures: Shares to draw beside the matrix as bars, one for each class, by name; NaN where
            there is none.

    Raises:
        ValueError: If the extension names no format.
        OSError: If the picture cannot be written.
    """
    from matplotlib.figure import Figure

    check_plot(picture)
    count = len(class_names)
    figures = figures or {}
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # Names and numbers only where there is room for them.
    is_small = count <= _MOST_NAMED_CLASSES
    side = 2.5 + 0.45 * count if is_small else 10.0
    bars = 2.0 * len(figures)
    figure = Figure(figsize=(side + bars + 1.0, side), layout="constrained")
    panels = figure.subplots(
        1, 1 + len(figures), squeeze=False, width_ratios=[side, *[2.0] * len(figures)]
    )[0]
    axes = panels[0]
    # Bars stand beside their rows where the matrix is as high as its panel.
    aspect = "auto" if figures else "equal"
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect=aspect)
    axes.set(xlabel="Answer", ylabel="Class", title=title)
    if is_small:
        axes.set_xticks(range(count), class_names, rotation=90)
        axes.set_yticks(range(count), class_names)
        _write_numbers(axes, matrix, shares)
    for panel, (name, values) in zip(panels[1:], figures.items(), strict=True):
        _draw_bars(panel, name, values, is_small)
    figure.colorbar(image, ax=panels[-1], label="Share of the class")
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=120)


def _write_numbers(axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    """Writes into each cell its count, or its share in percent where counts are too long."""
    are_counts = matrix.max() <= _MOST_COUNTED
    for row, column in np.argwhere(matrix if are_counts else shares >= 0.005):
        text = str(matrix[row, column]) if are_counts else f"{100 * shares[row, column]:.0f}"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
        )


def _draw_bars(axes, name: str, values: np.ndarray, is_small: bool) -> None:
    """Draws a bar for each class, in the order of the matrix's rows."""
    known = np.nan_to_num(values)
    axes.barh(range(len(values)), known, color="lightsteelblue")
    axes.set(title=name, xlim=(0.0, 1.0), ylim=(len(values) - 0.5, -0.5), yticks=[])
    for index, value in enumerate(values) if is_small else ():
        text = "–" if np.isnan(value) else f"{100 * value:.1f}%"
        axes.text(0.03, index, text, va="center")


def plot_precisions(
    precision: AveragePrecision, class_names: Sequence[str], picture: str | Path, title: str
) -> None:
    """Draws precision over recall: of every class at an IoU of 0.5, and the mean at several.

    Args:
        precision: What was measured.
        class_names: Name of each class.
        picture: The file to write; its extension says the format.
        title: What stands above it.

    Raises:
        ValueError: If the extension names no format.
        OSError: If the picture cannot be written.
    """
    from matplotlib.figure import Figure

    check_plot(picture)
    # Of boxes of any size: (T, R, K)
    precisions = precision.precisions()[..., 0]
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    of_classes, of_overlaps = figure.subplots(1, 2, sharey=True)
    is_there = ~np.isnan(precisions[0]).all(axis=0)
    are_named = is_there.sum() <= _MOST_CURVES
    for label in np.flatnonzero(is_there):
        values = precisions[0, :, label]
        name = f"{class_names[label]} {values.mean():.1%}"
        of_classes.plot(RECALLS, values, label=name if are_named else None, linewidth=1.2)
    for threshold in (0.5, 0.75, 0.9):
        if is_there.any():
            values = precisions[IOU_THRESHOLDS.index(threshold)][:, is_there].mean(axis=1)
            name = f"IoU {threshold:g}: {values.mean():.1%}"
            of_overlaps.plot(RECALLS, values, label=name, linewidth=1.5)
    of_classes.set(title="Each class, at an IoU of 0.5", ylabel="Precision")
    of_overlaps.set(title="Mean over the classes")
    for axes in (of_classes, of_overlaps):
        axes.set(xlabel="Recall", xlim=(0.0, 1.0), ylim=(0.0, 1.02))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="lower left", fontsize="small")
    figure.suptitle(title)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=120)


def panel_of(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """What a network saw of an image, stretched back to its aspect, no larger than a panel.

    Args:
        image: uint8 `(h, w, 3)`.
        height, width: The original's, in pixels.
    """
    from PIL import Image

    scale = min(1.0, _PANEL / width, _PANEL / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def draw_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    legend: Mapping[str, tuple[int, int, int]],
    picture: str | Path,
) -> None:
    """Draws rows of pictures side by side, with a legend of colours under them.

    Args:
        rows: Of each row its pictures, uint8 `(H, W, 3)`, all of one size; large ones are shrunk.
        titles: What stands above each column.
        legend: Names and their colours.
        picture: The file to write; its extension says the format.

    Raises:
        ValueError: If the extension names no format.
        OSError: If the picture cannot be written.
    """
    from PIL import Image, ImageDraw

    picture = Path(picture)
    if picture.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"A picture needs a known extension such as .png. Received: {picture}.")
    drawn = [[_shrunk(Image.fromarray(panel)) for panel in row] for row in rows]
    width = _MARGIN + len(titles) * (_PANEL + _MARGIN)
    lines = _legend_lines(legend, width - 2 * _MARGIN)
    heights = [max(panel.height for panel in row) for row in drawn]
    height = _LINE * (1 + len(lines)) + sum(heights) + _MARGIN * (len(rows) + 2)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        font, title = font_for(title)
        place = (_MARGIN + column * (_PANEL + _MARGIN), _MARGIN // 2)
        draw.text(place, title, fill="black", font=font)
    top = _LINE + _MARGIN
    for row, row_height in zip(drawn, heights, strict=True):
        for column, panel in enumerate(row):
            sheet.paste(panel, (_MARGIN + column * (_PANEL + _MARGIN), top))
        top += row_height + _MARGIN
    for line in lines:
        for left, name, font, colour in line:
            square = (_MARGIN + left, top + 2, _MARGIN + left + 11, top + 13)
            draw.rectangle(square, fill=colour, outline="gray")
            draw.text((square[2] + 5, top), name, fill="black", font=font)
        top += _LINE
    with atomic_path(picture) as temporary:
        sheet.save(temporary)


def _shrunk(panel):
    """A picture no larger than a panel; its colours may mean classes, so none are mixed."""
    scale = min(1.0, _PANEL / panel.width, _PANEL / panel.height)
    size = (max(1, round(panel.width * scale)), max(1, round(panel.height * scale)))
    return panel.resize(size, resample=0)


def _legend_lines(legend: Mapping[str, tuple[int, int, int]], width: int) -> list[list[tuple]]:
    """The entries (left, text, font, colour), broken into lines of a width."""
    lines: list[list[tuple]] = [[]]
    left = 0
    for name, colour in legend.items():
        font, text = font_for(name)
        length = 11 + 5 + int(font.getlength(text)) + 2 * _MARGIN
        if left and left + length > width:
            lines.append([])
            left = 0
        lines[-1].append((left, text, font, tuple(int(part) for part in colour)))
        left += length
    return lines
