"""Draws scenes: scanned digits that lie on photographs, with exact masks and boxes.

The digits are scikit-learn's `load_digits`, the test part of the UCI set "Optical Recognition of
Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998, CC BY 4.0); the photographs are its
`load_sample_images`, a temple in China by danielbuechele and a dahlia by vultilion, both on
flickr.com (CC BY 2.0). Nothing is downloaded.
"""

import colorsys
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

SIDES = (96, 112, 128)
"""Heights and widths of scenes in pixels."""

# Height of a digit as part of the scene's shorter side, and how far it may be turned.
_SMALLEST, _LARGEST = 0.28, 0.66
_MOST_DEGREES = 16.0
_MOST_DIGITS = 5
_TRIES = 10
# A digit lies where more of each can be seen, behind others or at the border, or not at all.
_LEAST_VISIBLE = 0.7
# Shadows are soft over as many pixels, and fall to the lower right.
_SOFT, _FALL = 2.2, (1, 2)
_MARGIN = 7
# How many scenes have a white digit, and its levels at its top and its bottom.
_PART_WHITE = 0.3
_WHITE = np.array([252, 250, 243], np.float32), np.array([219, 218, 211], np.float32)
# Where a digit ends: this part of the pen's full grey.
_PEN = 0.5
# Background, then the ten digits.
NUM_CLASSES = 11


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene and what is in it.

    Attributes:
        image: uint8 `(H, W, 3)`.
        mask: uint8 `(H, W)`: 0 for the background, 1 to 10 for the digits 0 to 9.
        boxes: float32 `(M, 4)`: left, top, right and bottom of what can be seen of each digit.
        labels: int64 `(M,)`: the digits.
    """

    image: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def draw_scene(
    random: np.random.Generator,
    photographs: Sequence[Image.Image],
    scans: np.ndarray,
    digits: np.ndarray,
) -> Scene:
    """Draws one scene.

    Args:
        random: Where every choice comes from.
        photographs: RGB images that backgrounds are cut from.
        scans: float `(N, 8, 8)`, values from 0 to 1.
        digits: What they show, `(N,)`.
    """
    height, width = (int(side) for side in random.choice(SIDES, 2))
    canvas = _background(random, photographs, height, width)
    owners = np.zeros((height, width), np.int64)
    laid: list[int] = []
    areas: list[int] = []
    hue = random.random()
    for number in range(random.integers(1, _MOST_DIGITS + 1)):
        chosen = random.integers(len(scans))
        side = min(height, width) * _between(random, _SMALLEST, _LARGEST)
        opacity = _opacity(scans[chosen], side, _between(random, -_MOST_DEGREES, _MOST_DEGREES))
        # Hues a golden section apart are never alike; a white digit is alone.
        is_white = number == 0 and random.random() < _PART_WHITE
        colours = _WHITE if is_white else _colours(random, (hue + number * 0.618) % 1.0)
        areas.append(np.count_nonzero(opacity >= 0.5))
        placed = _place(random, opacity, owners, len(laid) + 1, areas)
        if placed is None:
            areas.pop()
            continue
        owners, place = placed
        _lay(canvas, opacity, place, colours)
        laid.append(int(digits[chosen]))
    mask = np.array([0, *(digit + 1 for digit in laid)], np.uint8)[owners]
    boxes = [_box(owners == number + 1) for number in range(len(laid))]
    return Scene(
        np.round(canvas).astype(np.uint8),
        mask,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(laid, np.int64),
    )


def _between(random: np.random.Generator, least: float, most: float) -> float:
    return least + (most - least) * random.random()


def _background(
    random: np.random.Generator, photographs: Sequence[Image.Image], height: int, width: int
) -> np.ndarray:
    """A window of a photograph, mirrored or not, lighter or darker: float32, levels to 255."""
    photograph = photographs[random.integers(len(photographs))]
    most = min(photograph.width / width, photograph.height / height)
    scale = _between(random, min(1.0, most), most)
    left = random.random() * (photograph.width - width * scale)
    top = random.random() * (photograph.height - height * scale)
    window = (left, top, left + width * scale, top + height * scale)
    resized = photograph.resize((width, height), Image.Resampling.BICUBIC, box=window)
    if random.random() < 0.5:
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.minimum(np.asarray(resized, np.float32) * _between(random, 0.8, 1.1), 255.0)


def _opacity(scan: np.ndarray, side: float, degrees: float) -> np.ndarray:
    """A scan enlarged to a height, turned and with smooth edges: float32, values from 0 to 1."""
    # Enlarged in two steps: straight from 8 x 8 pixels a slanted stroke would be a staircase.
    grey = Image.fromarray(np.round(np.pad(scan, 2) * 255).astype(np.uint8))
    grey = grey.resize((60, 60), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1.4))
    size = math.ceil(1.8 * side)
    scale = 40 / side
    cosine = scale * math.cos(math.radians(degrees))
    sine = scale * math.sin(math.radians(degrees))
    # From the middle of the one to the middle of the other.
    shift = 30 - size / 2 * (cosine + sine), 30 - size / 2 * (cosine - sine)
    matrix = (cosine, sine, shift[0], -sine, cosine, shift[1])
    grey = grey.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    # The edge is about a pixel wide.
    level = np.asarray(grey, np.float32) / 255.0
    opacity = np.clip((level - _PEN) * (side / 10) + 0.5, 0.0, 1.0)
    rows, columns = np.nonzero(opacity.max(1))[0], np.nonzero(opacity.max(0))[0]
    return opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _place(
    random: np.random.Generator,
    opacity: np.ndarray,
    owners: np.ndarray,
    number: int,
    areas: Sequence[int],
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Finds a place for a digit, from which it covers no other one too much.

    Args:
        random: Where every choice comes from.
        opacity: The digit's.
        owners: The numbers of the digits that can be seen, 0 where there is none.
        number: The digit's own.
        areas: How many pixels each has, this one included.

    Returns:
        The owners with this digit, and its top and left; None where no place was found.
    """
    room = owners.shape[0] - opacity.shape[0], owners.shape[1] - opacity.shape[1]
    for _ in range(_TRIES):
        # It may stand out by a few pixels.
        top, left = (int(random.integers(-3, max(space, 0) + 4)) for space in room)
        seen = owners.copy()
        window, part = _overlap(opacity, (top, left), owners.shape)
        seen[window][opacity[part] >= 0.5] = number
        counts = np.bincount(seen.ravel(), minlength=number + 1)[1:]
        if np.all(counts >= _LEAST_VISIBLE * np.array(areas)):
            return seen, (top, left)
    return None


def _overlap(picture: np.ndarray, place: tuple[int, int], shape: tuple[int, ...]):
    """The part of a canvas that a picture covers, and the part of the picture that is there."""
    window, part = [], []
    for start, length, limit in zip(place, picture.shape, shape, strict=False):
        first, last = max(start, 0), max(min(start + length, limit), 0)
        window.append(slice(first, last))
        part.append(slice(first - start, last - start))
    return tuple(window), tuple(part)


def _colours(random: np.random.Generator, hue: float) -> tuple[np.ndarray, np.ndarray]:
    """A digit's colours at its top and its bottom, levels to 255."""
    saturation, value = _between(random, 0.55, 0.85), _between(random, 0.9, 1.0)
    top = colorsys.hsv_to_rgb(hue, saturation * 0.8, value)
    bottom = colorsys.hsv_to_rgb((hue + 0.05) % 1.0, min(saturation * 1.15, 1.0), value * 0.86)
    return np.array(top, np.float32) * 255, np.array(bottom, np.float32) * 255


def _lay(
    canvas: np.ndarray,
    opacity: np.ndarray,
    place: tuple[int, int],
    colours: tuple[np.ndarray, np.ndarray],
) -> None:
    """Lays a digit and its soft shadow over a scene, in place."""
    levels = Image.fromarray(np.pad(np.round(opacity * 255).astype(np.uint8), _MARGIN))
    shadow = np.asarray(levels.filter(ImageFilter.GaussianBlur(_SOFT)), np.float32) / 255.0
    corner = place[0] - _MARGIN + _FALL[1], place[1] - _MARGIN + _FALL[0]
    window, part = _overlap(shadow, corner, canvas.shape)
    canvas[window] *= 1 - 0.55 * shadow[part][..., None]
    down = np.linspace(0, 1, len(opacity), dtype=np.float32)[:, None, None]
    fill = colours[0] * (1 - down) + colours[1] * down
    # A light upper edge, as of something that lies there.
    edge = opacity - np.pad(opacity, ((1, 0), (1, 0)))[:-1, :-1]
    fill = np.minimum(fill + 60 * np.maximum(edge, 0)[..., None], 255.0)
    window, part = _overlap(opacity, place, canvas.shape)
    alpha = opacity[part][..., None]
    canvas[window] = canvas[window] * (1 - alpha) + fill[part] * alpha


def _box(visible: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is visible."""
    rows, columns = np.nonzero(visible.any(1))[0], np.nonzero(visible.any(0))[0]
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
