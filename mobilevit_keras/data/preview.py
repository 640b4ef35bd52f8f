"""A contact sheet of training batches, to see what the network will see."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.targets import NO_OBJECT, as_targets
from mobilevit_keras.files import atomic_path
from mobilevit_keras.palette import class_colours, overlay

_MARGIN = 8
_CAPTION = 18
_FONT_SIZE = 12


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

    Masks lie over their images in the classes' colours, what has no class in the last one's; boxes
    are frames in them with the classes' names.

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
    fields, class_names = dataset.source.fields, dataset.source.class_names
    rows = []
    with dataset.clear_errors():
        for number, (images, y) in enumerate(dataset.epoch(epoch).take(num_batches)):
            shown, texts = [], []
            for index, image in enumerate(images[:images_per_batch].numpy()):
                target = tf.nest.map_structure(lambda part, index=index: part[index].numpy(), y)
                pixels = np.round(image * 255).astype(np.uint8)
                shown.append(_with_targets(pixels, as_targets(target, fields), class_names))
                texts.append(captions(target))
            count, height, width = images.shape[:3]
            caption = f"epoch {epoch}, step {number}: {count} images of {height} x {width}"
            rows.append((caption, np.stack(shown), texts))
    sheet_width = max(
        _MARGIN + sum(image.shape[1] + _MARGIN for image in images) for _, images, _ in rows
    )
    # The row's caption, and the lines under the image that has most.
    most = max(len(lines) for _, _, texts in rows for lines in texts)
    room_for_text = _CAPTION * (1 + most)
    sheet_height = _MARGIN + sum(images.shape[1] + room_for_text + _MARGIN for _, images, _ in rows)
    sheet = Image.new("RGB", (sheet_width, sheet_height), "white")
    draw = ImageDraw.Draw(sheet)
    default, _ = font_for("")
    top = _MARGIN
    for caption, images, texts in rows:
        draw.text((_MARGIN, top), caption, fill="black", font=default)
        left = _MARGIN
        for image, lines in zip(images, texts, strict=True):
            height, room = image.shape[:2]
            sheet.paste(Image.fromarray(image), (left, top + _CAPTION))
            for number, line in enumerate(lines):
                font, line = font_for(line)
                while line and draw.textlength(line, font) > room:
                    line = line[:-1]
                place = (left, top + height + (number + 1) * _CAPTION + 2)
                draw.text(place, line, fill="dimgray", font=font)
            left += room + _MARGIN
        top += images.shape[1] + room_for_text + _MARGIN
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def _with_targets(pixels: np.ndarray, targets: dict, class_names: Sequence[str]) -> np.ndarray:
    """An image with those of its targets drawn that lie in it."""
    if "mask" in targets:
        pixels = overlay(pixels, targets["mask"])
    if "boxes" in targets:
        pixels = draw_boxes(pixels, targets["boxes"], targets["labels"], class_names)
    return pixels


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    texts: Sequence[str] | None = None,
    width: int = 1,
) -> np.ndarray:
    """Draws boxes as frames in their classes' colours.

    Args:
        image: uint8 `(H, W, 3)`.
        boxes: `(N, 4)`, left, top, right and bottom in pixels.
        labels: `(N,)`, classes from 0; -1 is no box.
        class_names: Names of the classes.
        texts: What to write at each box, in place of its class's name.
        width: Pixels of a frame's line; letters are larger by as much.

    Returns:
        uint8 `(H, W, 3)`.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    # The first colour is black, which a mask keeps for the background.
    colours = class_colours()[1:]
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if label == NO_OBJECT:
            continue
        colour = tuple(int(part) for part in colours[label % len(colours)])
        # The last pixel that lies in a box is the one before its end.
        left, top, right, bottom = (int(side) for side in np.rint(box))
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        text = class_names[label] if texts is None else texts[number]
        font, text = font_for(text, width * _FONT_SIZE)
        place = (left + 1 + width, top + width)
        draw.rectangle(draw.textbbox(place, text, font), fill=colour)
        draw.text(place, text, fill="white", font=font)
    return np.asarray(picture)


def font_for(text: str, size: int = _FONT_SIZE) -> tuple[Any, str]:
    """Finds a font that can draw a text: matplotlib's own, else the first of the system's.

    Args:
        text: One line.
        size: Height of the letters in pixels.

    Returns:
        A font of Pillow's, and the text; where no font has all of its characters, those that are
        missing stand as escapes such as `\\u732b`, in place of empty boxes.
    """
    own = _own_font()
    wanted = {ord(character) for character in text}
    path = own
    if not wanted <= _characters(own):
        path = next((each for each in _system_fonts() if wanted <= _characters(each)), own)
    missing = wanted - _characters(path)
    shown = "".join(
        character.encode("unicode_escape").decode() if ord(character) in missing else character
        for character in text
    )
    return _font(path, size), shown


@functools.lru_cache(maxsize=32)
def _font(path: str, size: int) -> Any:
    # Opening one takes longer than drawing all the boxes of an image.
    from PIL import ImageFont

    return ImageFont.truetype(path, size)


@functools.cache
def _own_font() -> str:
    import matplotlib

    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@functools.cache
def _system_fonts() -> tuple[str, ...]:
    """The system's fonts, upright ones of ordinary weight first."""
    from matplotlib import font_manager

    def is_special(path: str) -> bool:
        name = os.path.basename(path).casefold()
        return any(word in name for word in ("bold", "italic", "oblique", "mono", "serif"))

    return tuple(sorted(font_manager.findSystemFonts(), key=lambda path: (is_special(path), path)))


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """The characters that a font has; none where its file cannot be read."""
    from matplotlib import ft2font

    try:
        return frozenset(ft2font.FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
