"""SSD's anchors: boxes of a few sizes and shapes around the middle of every cell of every map.

keras_cv's AnchorGenerator has the middles at whole strides and a half, which is elsewhere where a
stride does not divide the image: at 320 px the fourth map's last ones lie on the image's edge.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops

ASPECT_RATIOS = ((2, 3), (2, 3), (2, 3), (2, 3), (2, 3), (2,))
"""For each of SSDLite's six maps, how much longer than high its oblong anchors are, or higher."""


STRIDES = (16, 32, 64, 128, 256)
"""Pixels of the image for each cell of SSDLite's maps; after them comes one of a single cell."""

MIN_SCALE, MAX_SCALE = 0.1, 1.05


def num_anchors(aspect_ratios: Sequence[Sequence[float]] = ASPECT_RATIOS) -> tuple[int, ...]:
    """Anchors in a cell of each map: two squares, and for each ratio a broad and a high one."""
    return tuple(2 + 2 * len(ratios) for ratios in aspect_ratios)


def _shapes(scales: np.ndarray, level: int, ratios: Sequence[float]) -> np.ndarray:
    """Widths and heights `(A, 2)` of a cell's anchors, in sides of the image."""
    scale, following = scales[level : level + 2]
    larger = (scale * following) ** 0.5
    shapes = [(scale, scale), (larger, larger)]
    for ratio in ratios:
        root = ratio**0.5
        shapes += [(scale * root, scale / root), (scale / root, scale * root)]
    # What is longer than the image is as long as the image; the middles stay where they are.
    return np.clip(shapes, 0.0, 1.0)


def ssd_anchors(
    map_sizes: Sequence[tuple],
    min_scale: float = MIN_SCALE,
    max_scale: float = MAX_SCALE,
    aspect_ratios: Sequence[Sequence[float]] = ASPECT_RATIOS,
):
    """Returns the anchors of all maps, map after map, cell after cell in row-major order.

    Args:
        map_sizes: Height and width of each map, integers or scalar integer tensors.
        min_scale, max_scale: Side of the small squares of the first map, and of those of a map
            after the last; those between are equally spaced.
        aspect_ratios: For each map, see `ASPECT_RATIOS`.

    Returns:
        float32 `(A, 4)`: middle's x and y, width and height, in sides of the image.

    Raises:
        ValueError: If there is not one tuple of ratios for each map.

    Example:
    >>> ssd_anchors([(2, 3)], aspect_ratios=[(2,)]).shape
    TensorShape([24, 4])

    Reference: [SSD](https://arxiv.org/abs/1512.02325), section 2.2.
    """
    if len(map_sizes) != len(aspect_ratios):
        raise ValueError(
            "`aspect_ratios` must be given for each map. "
            f"Received: {len(aspect_ratios)} for {len(map_sizes)} maps."
        )
    scales = np.linspace(min_scale, max_scale, len(map_sizes) + 1)
    levels = []
    for level, ((height, width), ratios) in enumerate(zip(map_sizes, aspect_ratios, strict=True)):
        # In float64 and rounded once: anchors that tie for a box tie to the last bit.
        shapes = ops.cast(_shapes(scales, level, ratios), "float32")
        y, x = (
            ops.cast(
                (ops.arange(side, dtype="float64") + 0.5) * (1.0 / ops.cast(side, "float64")),
                "float32",
            )
            for side in (height, width)
        )
        # -> (H, W, A, 4)
        grid = (height, width, shapes.shape[0])
        columns = (x[None, :, None], y[:, None, None], shapes[None, None, :, 0], shapes[..., 1])
        anchors = ops.stack([ops.broadcast_to(column, grid) for column in columns], axis=-1)
        # -> (H * W * A, 4)
        levels.append(ops.reshape(anchors, (-1, 4)))
    return ops.concatenate(levels, axis=0)


def image_anchors(
    height,
    width,
    min_scale: float = MIN_SCALE,
    max_scale: float = MAX_SCALE,
    multiples: Sequence[int] = (1, 1, 1),
):
    """Returns SSDLite's anchors of an image, see `ssd_anchors`.

    Args:
        height, width: The image's, in pixels; integers or scalar integer tensors.
        min_scale, max_scale: See `ssd_anchors`.
        multiples: What the sides of the backbone's last three maps are rounded up to multiples of.

    Example:
    >>> image_anchors(320, 320).shape
    TensorShape([3232, 4])
    """
    sides = (_map_sides(side, multiples) for side in (height, width))
    return ssd_anchors([*zip(*sides, strict=True), (1, 1)], min_scale, max_scale)


def _map_sides(side, multiples: Sequence[int]) -> list:
    """Cells along a side of the image, of each of SSDLite's maps but the last."""
    # The backbone's map before the first of those that are rounded.
    cells, sides = -(-side // (STRIDES[0] // 4)), []
    for multiple in (*multiples, *[1] * (len(STRIDES) - 2)):
        # Each map has half the cells of the one before, rounded up.
        cells = (cells + 1) // 2
        cells = -(-cells // multiple) * multiple
        sides.append(cells)
    # Anchors begin on the second.
    return sides[1:]
