"""Images as files or arrays, made a network's input as evaluation makes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.decoding import decode_image, why_unreadable
from mobilevit_keras.data.geometry import (
    CropSize,
    check_evaluation_size,
    crop_sides,
    evaluation_image,
)
from mobilevit_keras.data.source import printable


def evaluation_transform(
    contents: tf.Tensor,
    short_side: int,
    crop_size: CropSize,
    interpolation: str = "bilinear",
    resize: str = "crop",
) -> tf.Tensor:
    """Decodes an image, resizes it and crops the centre, or stretches it as a whole.

    Args:
        contents: Scalar string, the bytes of the image.
        short_side: See `geometry.evaluation_size`.
        crop_size: See `geometry.evaluation_size`.
        interpolation: `"bilinear"` or `"bicubic"`.
        resize: `"crop"` or `"stretch"`, see `geometry.evaluation_image`.

    Returns:
        float32 of the crop's shape `(h, w, 3)`, values in [0, 1].
    """
    check_evaluation_size(short_side, crop_size, interpolation, resize)
    return evaluation_image(decode_image(contents), short_side, crop_size, interpolation, resize)


def load_images(
    paths: Sequence[str | Path],
    short_side: int,
    crop_size: CropSize,
    interpolation: str = "bilinear",
    resize: str = "crop",
) -> np.ndarray:
    """Reads image files through the evaluation transform.

    Returns:
        float32 of shape `(len(paths), h, w, 3)`, values in [0, 1].

    Raises:
        OSError: If a file cannot be opened.
        ValueError: If a file is no image, or one cut short.
    """
    check_evaluation_size(short_side, crop_size, interpolation, resize)
    images = np.empty((len(paths), *crop_sides(crop_size), 3), np.float32)
    for index, path in enumerate(paths):
        image = tf.constant(read_image(path))
        images[index] = evaluation_image(image, short_side, crop_size, interpolation, resize)
    return images


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image file, upright and in RGB.

    Returns:
        uint8 `(H, W, 3)`.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If it is no image, or one cut short.
    """
    contents = Path(path).read_bytes()
    try:
        return decode_image(tf.constant(contents)).numpy()
    except (tf.errors.OpError, ValueError) as error:
        why = why_unreadable(contents)
        raise ValueError(
            f"A readable image is needed. Received: {printable(path)}{why and f' ({why})'}."
        ) from error


def preprocess(
    images: Any,
    short_side: int,
    crop_size: CropSize,
    interpolation: str = "bilinear",
    resize: str = "crop",
) -> np.ndarray:
    """Makes a network's input of files or pixels.

    Args:
        images: Paths; or pixels from 0 to 255, as integers or floats: one image `(H, W, 3)`, a
            batch `(N, H, W, 3)`, or a list of images of any sizes.
        short_side: See `geometry.evaluation_size`.
        crop_size: See `geometry.evaluation_size`.
        interpolation: `"bilinear"` or `"bicubic"`.
        resize: `"crop"` or `"stretch"`, see `geometry.evaluation_image`.

    Returns:
        float32 `(N, h, w, 3)` of the crop's size, values in [0, 1]; of one image N is 1.

    Raises:
        OSError: If a file cannot be opened.
        ValueError: If a file is no image, or pixels have another shape or another range.

    Example:
    >>> preprocess(np.full((480, 640, 3), 255, np.uint8), 288, 256).shape
    (1, 256, 256, 3)
    """
    check_evaluation_size(short_side, crop_size, interpolation, resize)
    # One path, or one image of Pillow's.
    if isinstance(images, str | Path) or hasattr(images, "getbands"):
        images = [images]
    if not hasattr(images, "shape"):
        images = list(images)
    if len(images) and all(isinstance(image, str | Path) for image in images):
        return load_images(images, short_side, crop_size, interpolation, resize)
    arrays = _pixels(images)
    prepared = np.empty((len(arrays), *crop_sides(crop_size), 3), np.float32)
    for index, array in enumerate(arrays):
        prepared[index] = evaluation_image(
            tf.constant(array), short_side, crop_size, interpolation, resize
        )
    return prepared


def _pixels(images: Any) -> list[np.ndarray]:
    """The images one by one, once they are known to be RGB from 0 to 255."""
    if hasattr(images, "shape") and len(images.shape) == 3:
        images = [images]
    arrays = [np.asarray(image) for image in images]
    for array in arrays:
        if array.ndim != 3 or array.shape[2] != 3 or not array.size:
            raise ValueError(
                "Images must be (H, W, 3) each, their last axis red, green and blue. "
                f"Received: {array.shape}."
            )
    if not arrays:
        return []
    least, most = min(map(np.min, arrays)), max(map(np.max, arrays))
    if not (least >= 0 and most <= 255):
        raise ValueError(f"Pixels must be from 0 to 255. Received: {least} to {most}.")
    are_floats = any(np.issubdtype(array.dtype, np.floating) for array in arrays)
    if are_floats and 0 < most <= 1:
        raise ValueError(
            "Pixels must be from 0 to 255, not divided already. "
            f"Received: floats from {least} to {most}."
        )
    return arrays
