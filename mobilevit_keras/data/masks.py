"""Masks: PNG files of class numbers, one for each pixel of the upright image."""

import io

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.decoding import MAX_PIXELS, as_bytes, upright_shape
from mobilevit_keras.data.geometry import OUTSIDE

# The kinds of grey in which Pillow gives numbers and not shades of 0..255, and what it multiplies
# the numbers of fewer than eight bits by.
_SCALES = {1: 255, 2: 85, 4: 17, 8: 1, 16: 1}
_GREY, _PALETTE = 0, 3


def decode_mask(contents: tf.Tensor, shape: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Decodes a mask and checks that it fits its image, as graph code.

    Args:
        contents: Scalar string, the bytes of a PNG file: grey of any depth or with a palette, whose
            numbers count and not its colours.
        shape: Height and width of the upright image, int32.
        num_classes: Number of classes.

    Returns:
        uint8 `(H, W)`: numbers of classes, and 255 where none is known.

    Raises:
        tf.errors.OpError: When run on what is no such file, one of another size than the image, or
            one that holds a number which is neither a class's nor 255. (Outside of a graph it may
            be a ValueError.)
    """
    # The first chunk, which the signature and the chunk's length and name stand before, holds width
    # and height, then depth and kind of colour. Read before memory is taken for the pixels.
    sides = tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)
    is_plain = tf.strings.substr(contents, 24, 2) == bytes([8, _GREY])

    def plain():
        return tf.io.decode_png(contents, channels=1)[..., 0]

    def other():
        # For a palette TensorFlow would give the grey of its colours.
        return tf.numpy_function(read_mask, [contents], tf.uint8, stateful=False)

    fits = tf.reduce_all(sides == tf.reverse(shape, [0]))
    with tf.control_dependencies([_refuse(~fits, "A mask must have its image's size:", sides)]):
        mask = tf.ensure_shape(tf.cond(is_plain, plain, other), (None, None))
    known = tf.reduce_all((mask < num_classes) | (mask == OUTSIDE))
    with tf.control_dependencies([_refuse(~known, "A mask must hold classes:", num_classes)]):
        return tf.identity(mask)


def _refuse(condition: tf.Tensor, message: str, value: tf.Tensor) -> tf.Operation:
    # The bare operation: the usual one adds a branch to the graph of every image.
    return tf.raw_ops.Assert(condition=~condition, data=[message, value])


def read_mask(contents: bytes | np.ndarray) -> np.ndarray:
    """Reads a mask by Pillow: the numbers of the pixels, whatever colours they stand for.

    Args:
        contents: The bytes of a PNG file.

    Returns:
        uint8 `(H, W)`.

    Raises:
        ValueError: If it is no PNG file, damaged, has colours in place of numbers, or numbers
            above 255. The text says which in a few words.
    """
    from PIL import Image

    contents = as_bytes(contents)
    try:
        with Image.open(io.BytesIO(contents), formats=("PNG",)) as image:
            depth, colours = contents[24], contents[25]
            if colours not in (_GREY, _PALETTE):
                raise ValueError(f"its mask is {image.mode}, colours in place of class numbers")
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"its mask has {image.width} x {image.height} pixels")
            numbers = np.asarray(image)
    except ValueError:
        raise
    except Exception as error:  # Pillow's readers raise of every kind on damaged files.
        raise ValueError("its mask is no PNG file that can be read") from error
    if colours == _GREY and depth > 1:
        numbers = numbers // _SCALES[depth]
    if numbers.max(initial=0) > OUTSIDE:
        raise ValueError(f"its mask holds {numbers.max()}, and at most 255 is a number of a mask")
    return numbers.astype(np.uint8)


def why_unfit(contents: bytes, image: bytes, num_classes: int) -> str:
    """Says in a few words what is wrong with a mask; empty where nothing is.

    Args:
        contents: The bytes of the mask's file.
        image: Those of the image that it is of.
        num_classes: Number of classes.
    """
    try:
        numbers = read_mask(contents)
    except ValueError as error:
        return str(error)
    try:
        height, width = upright_shape(image)
    except ValueError:
        # Then it is the image.
        return ""
    if numbers.shape != (height, width):
        return (
            f"its mask has {numbers.shape[1]} x {numbers.shape[0]} pixels, and the image has "
            f"{width} x {height}"
        )
    unknown = sorted(set(np.unique(numbers).tolist()) - {*range(num_classes), OUTSIDE})
    if unknown:
        return f"its mask holds {unknown[0]}, and classes are from 0 to {num_classes - 1}"
    return ""
