"""Boxes as a detector has them: relative to its anchors."""

import keras
import numpy as np

VARIANCE = (0.1, 0.1, 0.2, 0.2)
"""SSD's units: middles in tenths of the anchor's sides, logarithms of sides in fifths."""

_FORMATS = {"anchor_format": "center_xywh", "box_format": "xyxy", "variance": VARIANCE}


def encode_boxes(boxes, anchors):
    """Boxes relative to anchors: offsets of the middles, logarithms of the sides.

    Args:
        boxes: `(..., A, 4)`, left, top, right, bottom.
        anchors: `(A, 4)`, middle's x and y, width and height.

    Returns:
        float32 `(..., A, 4)`.

    Example:
    >>> boxes, anchors = np.array([[0.1, 0.0, 0.3, 0.2]]), np.array([[0.1, 0.1, 0.2, 0.2]])
    >>> encode_boxes(boxes, anchors).numpy().round(3)
    array([[5., 0., 0., 0.]], dtype=float32)
    """
    return keras.utils.bounding_boxes.encode_box_to_deltas(
        anchors, boxes, encoding_format="center_xywh", **_FORMATS
    )


def decode_boxes(deltas, anchors):
    """The inverse of `encode_boxes`.

    Args:
        deltas: `(..., A, 4)`, relative to the anchors.
        anchors: `(A, 4)`, middle's x and y, width and height.

    Returns:
        float32 `(..., A, 4)`, left, top, right, bottom.
    """
    return keras.utils.bounding_boxes.decode_deltas_to_boxes(
        anchors, deltas, encoded_format="center_xywh", **_FORMATS
    )


def to_pixels(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes in pixels of an image, cut at its edges.

    Args:
        boxes: `(N, 4)`, left, top, right, bottom in sides of the image.
        height, width: The image's, in pixels.

    Example:
    >>> to_pixels(np.array([[-0.1, 0.5, 0.5, 1.0]]), 20, 40)
    array([[ 0., 10., 20., 20.]], dtype=float32)
    """
    size = np.array([width, height, width, height], "float32")
    return np.clip(np.asarray(boxes, "float32") * size, 0.0, size)
