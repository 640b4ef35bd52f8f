"""A contact sheet of training batches, to see what the network will see."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.files import atomic_path

_MARGIN = 8
_CAPTION = 18


def preview(
    dataset: MultiScaleDataset,
    path: str | Path,
    captions: Callable[[Any], list[str]],
    num_batches: int = 6,
    *,
    epoch: int = 0,
    images_per_batch: int = 8,
) -> None:
    """Draws the first batches of an epoch, one row each, at the sizes in which they are trained.

    Args:
        dataset: The dataset to look at.
        path: The picture to write; its extension says the format.
        captions: Takes one image's targets, as `dataset` gives them, and returns the lines to write
            under the image.
        num_batches: How many batches to draw, at most.
        epoch: Number of the epoch.
        images_per_batch: How many images of each batch to draw, at most.

    Raises:
        ValueError: If a count is not positive, the extension names no format, or images cannot be
            read.
        OSError: If the picture cannot be written.
    """
    from PIL import Image, ImageDraw

    path = Path(path)
    if num_batches < 1 or images_per_batch < 1:
        raise ValueError(
            "`num_batches` and `images_per_batch` must be positive. "
            f"Received: num_batches={num_batches}, images_per_batch={images_per_batch}."
        )
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"A picture needs a known extension such as .png. Received: {path}.")
    rows = []
    with dataset.clear_errors():
        for number, (images, y) in enumerate(dataset.epoch(epoch).take(num_batches)):
            shown = images[:images_per_batch].numpy()
            texts = [
                captions(tf.nest.map_structure(lambda part, index=index: part[index].numpy(), y))
                for index in range(len(shown))
            ]
            count, height, width = images.shape[:3]
            caption = f"epoch {epoch}, step {number}: {count} images of {height} x {width}"
            rows.append((caption, np.round(shown * 255).astype(np.uint8), texts))
    sheet_width = max(
        _MARGIN + sum(image.shape[1] + _MARGIN for image in images) for _, images, _ in rows
    )
    # The row's caption, and the lines under the image that has most.
    most = max(len(lines) for _, _, texts in rows for lines in texts)
    room_for_text = _CAPTION * (1 + most)
    sheet_height = _MARGIN + sum(images.shape[1] + room_for_text + _MARGIN for _, images, _ in rows)
    sheet = Image.new("RGB", (sheet_width, sheet_height), "white")
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for caption, images, texts in rows:
        draw.text((_MARGIN, top), caption, fill="black")
        left = _MARGIN
        for image, lines in zip(images, texts, strict=True):
            height, room = image.shape[:2]
            sheet.paste(Image.fromarray(image), (left, top + _CAPTION))
            for number, line in enumerate(lines):
                while line and draw.textlength(line) > room:
                    line = line[:-1]
                place = (left, top + height + (number + 1) * _CAPTION + 2)
                draw.text(place, line, fill="dimgray")
            left += room + _MARGIN
        top += images.shape[1] + room_for_text + _MARGIN
    with atomic_path(path) as temporary:
        sheet.save(temporary)
