"""A contact sheet of training batches, to see what the network will see."""

from pathlib import Path

import numpy as np

from mobilevit_keras.data.pipeline import TrainingPipeline
from mobilevit_keras.files import atomic_path

_MARGIN = 8
_CAPTION = 18


def preview(
    pipeline: TrainingPipeline,
    path: str | Path,
    num_batches: int = 6,
    *,
    epoch: int = 0,
    images_per_batch: int = 8,
) -> None:
    """Draws the first batches of an epoch, one row each, at the sizes in which they are trained.

    Args:
        pipeline: The pipeline to look at.
        path: The picture to write; its extension says the format.
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
    with pipeline.clear_errors():
        for number, (images, labels) in enumerate(pipeline.epoch(epoch).take(num_batches)):
            shown = images[:images_per_batch].numpy()
            names = [_class_names(pipeline, label) for label in labels[:images_per_batch].numpy()]
            count, height, width = images.shape[:3]
            caption = f"epoch {epoch}, step {number}: {count} images of {height} x {width}"
            rows.append((caption, np.round(shown * 255).astype(np.uint8), names))
    sheet_width = max(
        _MARGIN + sum(image.shape[1] + _MARGIN for image in images) for _, images, _ in rows
    )
    # The row's caption, and a line for each class that an image may have.
    captions = _CAPTION * (3 if pipeline.augmentation == "advanced" else 2)
    sheet_height = _MARGIN + sum(images.shape[1] + captions + _MARGIN for _, images, _ in rows)
    sheet = Image.new("RGB", (sheet_width, sheet_height), "white")
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for caption, images, names in rows:
        draw.text((_MARGIN, top), caption, fill="black")
        left = _MARGIN
        for image, lines in zip(images, names, strict=True):
            height, room = image.shape[:2]
            sheet.paste(Image.fromarray(image), (left, top + _CAPTION))
            for number, line in enumerate(lines):
                while line and draw.textlength(line) > room:
                    line = line[:-1]
                place = (left, top + height + (number + 1) * _CAPTION + 2)
                draw.text(place, line, fill="dimgray")
            left += room + _MARGIN
        top += images.shape[1] + captions + _MARGIN
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def _class_names(pipeline: TrainingPipeline, label: np.ndarray) -> list[str]:
    """Names a label, or the two largest parts of a mixed one."""
    names = pipeline.source.class_names
    if label.ndim == 0:
        return [names[int(label)]]
    largest = [index for index in np.argsort(-label)[:2] if label[index] > 0.005]
    # The share first: where there is no room, the line's end is left out.
    return [f"{100 * label[index]:.0f}% {names[index]}" for index in largest]
