"""The colours of classes in pictures, and the one table of them."""

import numpy as np


def class_colours() -> np.ndarray:
    """The colour of each number that a mask may hold: PASCAL VOC's, which other tools know.

    Returns:
        uint8 `(256, 3)`, RGB; neighbours are easy to tell apart, 0 is black.

    Example:
    >>> class_colours()[:4].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    # Each bit of a number is one of a colour's bits, the lowest ones of its highest.
    for bit in range(8):
        colours[:, bit % 3] |= (numbers >> bit & 1) << (7 - bit // 3)
    return colours.astype(np.uint8)


def heat_colours() -> np.ndarray:
    """The colours of a heat map: nothing of blue, red where little is, through orange to yellow.

    Returns:
        uint8 `(256, 3)`, RGB, of 0 to the most.

    Example:
    >>> heat_colours()[[0, 128, 255]].tolist()
    [[255, 0, 0], [255, 128, 0], [255, 255, 0]]
    """
    levels = np.arange(256)
    return np.stack([np.full(256, 255), levels, np.zeros(256)], -1).astype(np.uint8)


def heat_overlay(image: np.ndarray, heat: np.ndarray, share: float = 0.7) -> np.ndarray:
    """Lays a heat map over its image; the more heat, the less of the image.

    Args:
        image: uint8 `(H, W, 3)`.
        heat: `(H, W)`, 0 to 1; NaN where nothing is known, which becomes dark.
        share: How much of the colours there is where the heat is 1, 0 to 1.

    Returns:
        uint8 `(H, W, 3)`.
    """
    known = ~np.isnan(heat)[..., None]
    heat = np.nan_to_num(heat).astype(np.float32)
    colours = heat_colours()[np.rint(255.0 * heat).astype(np.uint8)]
    part = share * heat[..., None]
    mixed = np.where(known, (1.0 - part) * image + part * colours, 0.4 * image)
    return np.rint(mixed).astype(np.uint8)


def overlay(image: np.ndarray, mask: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Lays the colours of a mask's classes over its image.

    Args:
        image: uint8 `(H, W, 3)`.
        mask: `(H, W)`, numbers of 0 to 255.
        share: How much of the colours there is, 0 to 1.

    Returns:
        uint8 `(H, W, 3)`.
    """
    mixed = (1.0 - share) * image + share * class_colours()[mask]
    return np.rint(mixed).astype(np.uint8)
