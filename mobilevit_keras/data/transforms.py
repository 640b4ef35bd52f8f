"""From encoded bytes to pixels: decoding, random crops and the evaluation transform, as graph code.

JPEG and PNG are decoded by TensorFlow, other formats (BMP, the first frame of a GIF) by Pillow.
The format is read from the content, never from a file's name. Grey, palette, RGBA and CMYK images
become RGB; alpha is dropped. A JPEG's EXIF orientation is applied everywhere, training included,
because browsers apply it before a page sees the pixels.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

ATTEMPTS = 10  # tries of RandomResizedCrop before it settles for a centred crop
_CROP_ASPECT = (3 / 4, 4 / 3)

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


def crop_fractions(random: tf.Tensor, area: tuple[float, float]) -> tf.Tensor:
    """Turns uniform draws into crop sizes as fractions of the root of an image's area.

    Args:
        random: Uniform draws in [0, 1), shape `(..., 2)`.
        area: Smallest and largest fraction of the image's area that a crop covers.

    Returns:
        Height and width over sqrt(image area), shape `(..., 2)`; aspect ratios are log-uniform
        between 3/4 and 4/3.
    """
    covered = area[0] + (area[1] - area[0]) * random[..., 0]
    low, high = (math.log(aspect) for aspect in _CROP_ASPECT)
    aspect = tf.exp(low + (high - low) * random[..., 1])
    return tf.sqrt(tf.stack([covered / aspect, covered * aspect], -1))


def random_window(shape: tf.Tensor, fractions: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Places a RandomResizedCrop: the first of several tries that fits, else a centred crop.

    Args:
        shape: Height and width of the image, int32.
        fractions: Tries from `crop_fractions`, shape `(tries, 2)`.
        position: Two uniform draws in [0, 1) for the place, top then left.

    Returns:
        int32 `(top, left, height, width)`.
    """
    dims = tf.cast(shape, tf.float32)
    tries = tf.maximum(tf.round(tf.sqrt(tf.reduce_prod(dims)) * fractions), 1.0)
    fits = tf.reduce_all(tries <= dims, -1)
    first = tf.argmax(fits)
    found = tf.gather(fits, first)
    # Without a fit (a very long image) the largest centred crop of an allowed aspect is taken.
    longest = tf.minimum(dims, tf.round(tf.reverse(dims, [0]) * _CROP_ASPECT[1]))
    size = tf.where(found, tf.gather(tries, first), longest)
    room = dims - size
    place = tf.floor(tf.where(found, position * (room + 1.0), room / 2))
    # float32 may round a draw just below 1 up to the next whole pixel.
    return tf.cast(tf.concat([tf.minimum(place, room), size], 0), tf.int32)


def centre_window(shape: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns the largest centred window of the aspect height : width, `(top, left, h, w)`."""
    dims = tf.cast(shape, tf.float32)
    target = tf.cast(tf.stack([height, width]), tf.float32)
    size = tf.maximum(tf.round(target * tf.reduce_min(dims / target)), 1.0)
    return tf.cast(tf.concat([tf.floor((dims - size) / 2), size], 0), tf.int32)


def decode_crop_resize(
    contents: tf.Tensor, window, height: tf.Tensor, width: tf.Tensor, flip: tf.Tensor
) -> tf.Tensor:
    """Decodes a window of an image straight to a size.

    Upright JPEGs are decoded by the fused operation, which skips the lines and columns outside of
    the window. Where the window is at least twice (4, 8 times) the target in both directions, the
    decoder also halves the picture (to a quarter, an eighth) inside its cosine transform: that is
    cheaper, and closer to an area average than bilinear sampling alone would be.

    Args:
        contents: Scalar string, the bytes of the image.
        window: Function from an image's shape (height and width, int32) to
            `(top, left, height, width)`.
        height: Target height in pixels.
        width: Target width in pixels.
        flip: Scalar bool, whether to mirror left and right.

    Returns:
        float32 of shape `(height, width, 3)`, values in [0, 1].

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
        return tf.switch_case(branch, [lambda ratio=ratio: decode(ratio) for ratio in ratios])

    def generic():
        image = decode_image(contents)
        crop = window(tf.shape(image)[:2])
        return image[crop[0] : crop[0] + crop[2], crop[1] : crop[1] + crop[3]]

    size = tf.cast(tf.stack([height, width]), tf.int32)
    # The fused decoder never reads what lies below its window: a file that does not close with the
    # end-of-image mark takes the slow way, on which a missing part is an error.
    closed = tf.strings.substr(contents, -2, 2) == b"\xff\xd9"
    plain = _is_jpeg(contents) & closed & _is_upright(contents)
    image = tf.ensure_shape(tf.cond(plain, fused, generic), (None, None, 3))
    image = tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)
    # The bare operation: the checks around it would make each epoch start later. From bytes it
    # would take twice as long as from floats, the step to them included.
    resized = tf.raw_ops.ResizeBilinear(
        images=tf.cast(image, tf.float32)[None], size=size, half_pixel_centers=True
    )
    return resized[0] * (1.0 / 255.0)


CropSize = int | tuple[int, int]
"""Side of a square crop, or its height and width."""


def crop_sides(crop_size: CropSize) -> tuple[int, int]:
    """Height and width of a crop."""
    return (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)


def check_evaluation_size(short_side: int, crop_size: CropSize, interpolation: str) -> None:
    """Raises ValueError unless the crop fits into the resized image and the method is known."""
    if not 0 < min(crop_sides(crop_size)) <= short_side:
        raise ValueError(
            "`crop_size` must be positive and at most `short_side`. "
            f"Received: crop_size={crop_size}, short_side={short_side}."
        )
    if interpolation not in ("bilinear", "bicubic"):
        raise ValueError(
            f"`interpolation` must be 'bilinear' or 'bicubic'. Received: {interpolation!r}."
        )


def evaluation_size(shape, short_side: int, crop_size: CropSize):
    """Height and width to which evaluation resizes an image before it crops the centre.

    The image becomes just large enough to cover a box of the crop's aspect, whose shorter side is
    `short_side`: of a square crop, its own shorter side becomes `short_side`. What does not divide
    is floored.

    Args:
        shape: Height and width of the image, int32 `(2,)`.
        short_side: The box's side that belongs to the crop's shorter one.
        crop_size: The crop.

    Returns:
        int32 `(2,)`.
    """
    sides = crop_sides(crop_size)
    box = [side * short_side // min(sides) for side in sides]
    by_height = tf.stack([box[0], shape[1] * box[0] // shape[0]])
    by_width = tf.stack([shape[0] * box[1] // shape[1], box[1]])
    return tf.where(box[0] * shape[1] >= box[1] * shape[0], by_height, by_width)


def evaluation_transform(
    contents: tf.Tensor, short_side: int, crop_size: CropSize, interpolation: str = "bilinear"
) -> tf.Tensor:
    """Decodes an image, resizes it and crops the centre.

    The resize samples at half-pixel centres without antialiasing. The crop's offset is floored.

    Args:
        contents: Scalar string, the bytes of the image.
        short_side, crop_size: See `evaluation_size`.
        interpolation: `"bilinear"` or `"bicubic"` (Keys, a = -0.5; overshoot is clipped).

    Returns:
        float32 of the crop's shape `(h, w, 3)`, values in [0, 1].
    """
    check_evaluation_size(short_side, crop_size, interpolation)
    image = decode_image(contents)
    resized = evaluation_size(tf.shape(image)[:2], short_side, crop_size)
    image = tf.image.resize(tf.cast(image, tf.float32), resized, method=interpolation)
    crop = crop_sides(crop_size)
    image = tf.slice(image, tf.concat([(resized - crop) // 2, [0]], 0), (*crop, 3))
    return tf.clip_by_value(image / 255.0, 0.0, 1.0)


def load_images(
    paths: Sequence[str | Path],
    short_side: int,
    crop_size: CropSize,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Reads image files through the evaluation transform.

    Returns:
        float32 of shape `(len(paths), h, w, 3)`, values in [0, 1].

    Raises:
        OSError: If a file cannot be opened.
        ValueError: If a file is no image, or one cut short.
    """
    check_evaluation_size(short_side, crop_size, interpolation)
    images = np.empty((len(paths), *crop_sides(crop_size), 3), np.float32)
    for index, path in enumerate(paths):
        contents = Path(path).read_bytes()
        try:
            images[index] = evaluation_transform(
                tf.constant(contents), short_side, crop_size, interpolation
            )
        except (tf.errors.OpError, ValueError) as error:
            raise ValueError(
                f"A readable JPEG, PNG, BMP or GIF image is needed. Received: {path}."
            ) from error
    return images
