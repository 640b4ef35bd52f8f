"""From the bytes of an image file to upright RGB, as graph code.

JPEG and PNG are decoded by TensorFlow, other formats (BMP, the first frame of a GIF) by Pillow.
The format is read from the content, never from a file's name. Grey, palette, RGBA and CMYK images
become RGB; alpha is dropped. A JPEG's EXIF orientation is applied everywhere, training included,
because browsers apply it before a page sees the pixels.
"""

import io
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.geometry import cut

# The TIFF entry of the orientation (tag 0x0112, type short, count 1) in both byte orders. It sits
# in the first directory, which follows the Exif mark closely; `\C` is any byte, where `.` would be
# a UTF-8 character.
_ORIENTATION = (
    rb"^\C*?Exif\x00\x00\C*?(?:\x12\x01\x03\x00\x01\x00\x00\x00([\x02-\x08])\x00"
    rb"|\x01\x12\x00\x03\x00\x00\x00\x01\x00([\x02-\x08]))\C*$"
)
_EXIF_BYTES = 1024

# What Pillow and browsers use; the decoder's default is off by up to 19 levels and no faster.
_DCT = "INTEGER_ACCURATE"


def _is_jpeg(contents: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(contents, 0, 3) == b"\xff\xd8\xff"


def _is_upright(contents: tf.Tensor) -> tf.Tensor:
    head = tf.strings.substr(contents, 0, _EXIF_BYTES)
    return ~tf.strings.regex_full_match(head, _ORIENTATION)


def _orientation(contents: tf.Tensor) -> tf.Tensor:
    """Returns an image's EXIF orientation, 1 to 8; 1, upright, where there is none."""
    head = tf.strings.substr(contents, 0, _EXIF_BYTES)
    found = tf.strings.regex_replace(head, _ORIENTATION, rb"\1\2")
    value = tf.cast(tf.io.decode_raw(found, tf.uint8)[0], tf.int32)
    # Without a match the text stays whole.
    return tf.where(tf.strings.length(found) == 1, value, 1)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Applies an EXIF orientation: values from 5 swap the axes, then each axis may be reversed."""
    image = tf.transpose(image, tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2]))
    flip_y = tf.reduce_any(orientation == [3, 4, 7, 8])
    flip_x = tf.reduce_any(orientation == [2, 3, 6, 7])
    return tf.raw_ops.Reverse(tensor=image, dims=tf.stack([flip_y, flip_x, False]))


def _decode_with_pillow(contents: bytes | np.ndarray) -> np.ndarray:
    from PIL import Image

    # Outside of a graph TensorFlow passes a string as an array without dimensions.
    contents = contents if isinstance(contents, bytes) else contents.item()
    try:
        with Image.open(io.BytesIO(contents), formats=("BMP", "GIF")) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's readers raise of every kind on damaged files.
        raise ValueError(f"Pillow cannot read the image: {error}") from error


def decode_image(contents: tf.Tensor) -> tf.Tensor:
    """Decodes an image, upright and in RGB.

    Args:
        contents: Scalar string, the bytes of a JPEG, PNG, BMP or GIF file.

    Returns:
        uint8 of shape `(H, W, 3)`.

    Raises:
        tf.errors.OpError: When run on bytes that are no image, or one cut short. (Outside of a
            graph a ValueError, for the formats that Pillow reads.)
    """
    decoders = [
        lambda: tf.io.decode_png(contents, channels=3),
        lambda: tf.io.decode_jpeg(contents, channels=3, dct_method=_DCT),
        # TensorFlow's BMP decoder leaves palettes out, and its GIF decoder reads every frame.
        lambda: tf.numpy_function(_decode_with_pillow, [contents], tf.uint8),
    ]
    with_pillow = tf.strings.regex_full_match(tf.strings.substr(contents, 0, 3), r"BM\C|GIF")
    decoder = tf.cast(_is_jpeg(contents), tf.int32) + 2 * tf.cast(with_pillow, tf.int32)
    image = tf.ensure_shape(tf.switch_case(decoder, decoders), (None, None, 3))
    return _upright(image, _orientation(contents))


def decode_window(
    contents: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor], size: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a window of an image that is going to be resized.

    Upright JPEGs are decoded by the fused operation, which skips the lines and columns outside of
    the window. Where the window is at least twice (4, 8 times) the target in both directions, the
    decoder also halves the picture (to a quarter, an eighth) inside its cosine transform: that is
    cheaper, and closer to an area average than bilinear sampling alone would be.

    Args:
        contents: Scalar string, the bytes of the image.
        window: Takes an image's shape (height and width, int32), returns int32
            `(top, left, height, width)`.
        size: Height and width that the window will be resized to, int32.

    Returns:
        uint8 `(h, w, 3)`, the window's pixels, perhaps fewer of them; and the window.

    Raises:
        tf.errors.OpError: When run on bytes that are no image, or one cut short.
    """

    def fused():
        shape = tf.io.extract_jpeg_shape(contents)[:2]
        crop = window(shape)

        def decode(ratio):
            # Place and size rounded down, so that the window stays inside of the small picture.
            return tf.image.decode_and_crop_jpeg(
                contents, crop // ratio, channels=3, ratio=ratio, dct_method=_DCT
            )

        ratios = (1, 2, 4, 8)
        scale = tf.reduce_min(crop[2:] // size)
        branch = tf.reduce_sum(tf.cast(scale >= ratios[1:], tf.int32))
        pixels = tf.switch_case(branch, [lambda ratio=ratio: decode(ratio) for ratio in ratios])
        return pixels, crop

    def generic():
        image = decode_image(contents)
        crop = window(tf.shape(image)[:2])
        return cut(image, crop), crop

    # The fused decoder never reads what lies below its window: a file that does not close with the
    # end-of-image mark takes the slow way, on which a missing part is an error.
    closed = tf.strings.substr(contents, -2, 2) == b"\xff\xd9"
    plain = _is_jpeg(contents) & closed & _is_upright(contents)
    pixels, crop = tf.cond(plain, fused, generic)
    return tf.ensure_shape(pixels, (None, None, 3)), tf.ensure_shape(crop, (4,))
