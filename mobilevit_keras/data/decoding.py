"""From the bytes of an image file to upright RGB, as graph code.

JPEG and PNG are decoded by TensorFlow, all other formats by Pillow, which is slower; of several
frames or pages the first one is taken. The format is read from the content, never from a file's
name. Grey, palette, RGBA and CMYK images become RGB; alpha is dropped. The orientation that EXIF
data say is applied everywhere, training included, because browsers apply it before a page sees the
pixels. Images of more than 178,956,970 pixels, at which Pillow too takes them for an attack, are
not decoded as a whole.
"""

import functools
import importlib
import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.geometry import cut

MAX_PIXELS = 178_956_970

# What Pillow and browsers use; the decoder's default is off by up to 19 levels and no faster.
_DCT = "INTEGER_ACCURATE"

# Formats as Pillow calls them. Those that it leaves to a plug-in stand with the package to install.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "AVIF", "TIFF", "JPEG2000", "PPM", "MPO")
_PLUGINS = {"HEIF": ("pillow_heif", "pillow-heif", (".heic", ".heif", ".hif"))}
# Pillow may be built without these.
_OPTIONAL = (".webp", ".avif", ".avifs", ".jp2", ".tif", ".tiff")

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# By what the JPEG decoder can make a picture smaller.
_RATIOS = (1, 2, 4, 8)

_ORIENTATION_TAG = 0x0112
_SHORT = 3
# What Python looks at: all but JPEG and PNG, whose first bytes are above 0x7f as no other
# format's is; and what may have EXIF data. They usually come first. In a JPEG they may also stand
# behind XMP data, or behind a colour profile or Photoshop's notes that fill the bytes that are
# searched (so large that they take several segments, or of a length whose high byte says so). `\C`
# is any byte, where `.` would be a UTF-8 character.
_HEAD = 4096
_MAY_BE_TURNED = (
    rb"[\x00-\x7f]\C*|\C*(?:Exif\x00\x00|eXIf|http://ns\.adobe\.com/"
    rb"|ICC_PROFILE\x00\x01[\x02-\x7f]|[\x0e-\x7f]\C(?:ICC_PROFILE|Photoshop 3\.0)\x00)\C*"
)


@functools.cache
def _readable_formats() -> tuple[str, ...]:
    """The formats that Pillow can read here, plug-ins included."""
    from PIL import Image

    Image.init()
    for module, _, _ in _PLUGINS.values():
        try:
            importlib.import_module(module).register_heif_opener()
        except ImportError:
            continue
    return tuple(name for name in (*_FORMATS, *_PLUGINS) if name in Image.OPEN)


def image_extensions() -> tuple[str, ...]:
    """The extensions, in small letters, of the files that can be read here."""
    from PIL import Image, features

    formats = _readable_formats()
    found = {end for end, name in Image.registered_extensions().items() if name in formats}
    # Pillow knows these formats even where it was built without their libraries.
    for feature, ends in (("webp", (".webp",)), ("avif", (".avif", ".avifs"))):
        if not features.check(feature):
            found -= set(ends)
    return tuple(sorted(found))


def missing_reader(extension: str) -> str:
    """Says in a few words why files of an extension cannot be read here."""
    for _, package, ends in _PLUGINS.values():
        if extension in ends:
            return f"install {package}"
    if extension in _OPTIONAL:
        return "this build of Pillow cannot read it"
    return "no image"


def _is_jpeg(contents: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(contents, 0, 3) == _JPEG


def _is_upright(contents: tf.Tensor, is_jpeg: tf.Tensor) -> tf.Tensor:
    """Whether it is a JPEG or PNG whose pixels are upright as they are stored.

    Every operation counts here. One pattern tells it of most images; to walk through the segments
    and chunks of the others takes Python code, which only one thread runs at a time.
    """
    head = tf.strings.substr(contents, 0, _HEAD)
    # In a PNG EXIF data may stand behind the pixels.
    is_long_png = (tf.strings.length(contents) > _HEAD) & ~is_jpeg

    def look():
        looked = tf.numpy_function(_is_stored_upright, [contents], tf.bool, stateful=False)
        looked.set_shape(())
        return looked

    may_be_turned = tf.strings.regex_full_match(head, _MAY_BE_TURNED) | is_long_png
    return tf.cond(may_be_turned, look, lambda: True)


def _is_stored_upright(contents: bytes | np.ndarray) -> np.bool_:
    contents = as_bytes(contents)
    if contents.startswith(_PNG):
        width, height = _size_of_png(contents)
        if width * height > MAX_PIXELS:
            # It is refused by who else decodes it.
            return np.False_
    elif not contents.startswith(_JPEG):
        return np.False_
    return np.bool_(_orientation(contents) == 1)


def _size_of_png(contents: bytes) -> tuple[int, int]:
    """Width and height, which follow the signature and the first chunk's length and name."""
    return struct.unpack_from(">II", contents, 16)


def as_bytes(contents: bytes | np.ndarray) -> bytes:
    """A string as TensorFlow hands it to a numpy function.

    Outside of a graph that is an array without dimensions.
    """
    return contents if isinstance(contents, bytes) else contents.item()


def _orientation(contents: bytes) -> int:
    """Returns the EXIF orientation of a JPEG or PNG, 1 to 8; 1, upright, where there is none."""
    is_png = contents.startswith(_PNG)
    return _orientation_of_exif(_exif_of_png(contents) if is_png else _exif_of_jpeg(contents))


def _exif_of_jpeg(contents: bytes) -> bytes:
    """The EXIF data of a JPEG, wherever they stand before the pixels; none are no bytes."""
    place = 2
    while place + 4 <= len(contents) and contents[place] == 0xFF:
        marker = contents[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == 0xDA:  # the pixels begin
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # marks without content
            place += 2
            continue
        (length,) = struct.unpack_from(">H", contents, place + 2)
        segment = contents[place + 4 : place + 2 + length]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            return segment[6:]
        place += 2 + length
    return b""


def _exif_of_png(contents: bytes) -> bytes:
    """The content of a PNG's eXIf chunk, if it has one."""
    place = 8
    while place + 8 <= len(contents):
        length, kind = struct.unpack_from(">I4s", contents, place)
        if kind == b"eXIf":
            return contents[place + 8 : place + 8 + length]
        place += 12 + length
    return b""


def _orientation_of_exif(exif: bytes) -> int:
    """The orientation in the first directory of EXIF data; 1 where they hold none that is known."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return 1
    (place,) = struct.unpack_from(order + "I", exif, 4)
    if place + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(order + "H", exif, place)
    for entry in range(place + 2, min(place + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
        if tag == _ORIENTATION_TAG and kind == _SHORT:
            return value if 1 <= value <= 8 else 1
    return 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation: values from 5 swap the axes, then each axis may be reversed."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(image[::rows, ::columns])


def _decode_in_python(contents: bytes | np.ndarray) -> np.ndarray:
    contents = as_bytes(contents)
    if not contents.startswith((_JPEG, _PNG)):
        # TensorFlow's BMP decoder leaves palettes out, and its GIF decoder reads every frame.
        return _decode_with_pillow(contents)
    with tf.device("CPU:0"):
        if contents.startswith(_PNG):
            width, height = _size_of_png(contents)
        else:
            height, width, _ = tf.io.extract_jpeg_shape(contents).numpy().tolist()
        if width * height > MAX_PIXELS:
            raise ValueError(_too_large(width, height))
        # It reads PNG as well.
        image = tf.io.decode_jpeg(contents, channels=3, dct_method=_DCT).numpy()
    return _upright(image, _orientation(contents))


def _decode_with_pillow(contents: bytes) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(contents), formats=_readable_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(_too_large(image.width, image.height))
            if image.mode.startswith("I;16"):
                # Pillow would cut bright values off and keep dark ones; TensorFlow takes the high
                # byte.
                deep = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                deep.info["exif"] = image.getexif().tobytes()
                image = deep
            elif image.mode in ("I", "F"):
                raise ValueError(f"its pixels are {image.mode}, numbers without a range")
            _drop_xmp(image)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # Pillow's readers raise of every kind on damaged files.
        raise ValueError(f"Pillow cannot read the image: {error}") from error


def _drop_xmp(image) -> None:
    """Of XMP data, which Pillow would look into as well, browsers take no orientation."""
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)


def _too_large(width: int, height: int) -> str:
    return (
        f"{width} x {height} are {width * height / 1e6:.0f} megapixels, and at most "
        f"{MAX_PIXELS / 1e6:.0f} are decoded"
    )


def why_unreadable(contents: bytes) -> str:
    """Says in a few words why an image cannot be read; empty where there is nothing special."""
    from PIL import Image

    brands = (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1")
    if contents[4:8] == b"ftyp" and contents[8:12] in brands and "HEIF" not in _readable_formats():
        return "a HEIC file: install pillow-heif"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(contents), formats=_readable_formats()) as image:
                size = image.size
    except Image.DecompressionBombError:
        return f"more than the {MAX_PIXELS / 1e6:.0f} megapixels that are decoded at most"
    except Exception:  # Pillow's readers raise of every kind on damaged files.
        return ""
    return _too_large(*size) if size[0] * size[1] > MAX_PIXELS else ""


def upright_shape(contents: bytes) -> tuple[int, int]:
    """Reads the height and width that `decode_image` gives an image, from its head alone.

    Raises:
        ValueError: If it is no image.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(contents), formats=_readable_formats()) as image:
                _drop_xmp(image)
                width, height = image.size
                orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception as error:  # Pillow's readers raise of every kind on damaged files.
        raise ValueError(f"An image is needed. Received: {contents[:8]!r}….") from error
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def _within_limit(shape: tf.Tensor) -> tf.Operation:
    """Refuses an image by its height and width, before memory is taken for its pixels."""
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    # The bare operation: the usual one adds a branch to the graph of every image.
    return tf.raw_ops.Assert(
        condition=pixels <= MAX_PIXELS, data=["An image has too many pixels:", pixels]
    )


def decode_image(contents: tf.Tensor) -> tf.Tensor:
    """Decodes an image, upright and in RGB.

    Args:
        contents: Scalar string, the bytes of an image file: JPEG, PNG, or another format that
            Pillow reads here, such as WebP, TIFF, BMP, GIF.

    Returns:
        uint8 of shape `(H, W, 3)`.

    Raises:
        tf.errors.OpError: When run on bytes that are no image, or one cut short, or one of too many
            pixels. (Outside of a graph a ValueError, for the formats that Pillow reads.)
    """

    def decode_jpeg():
        with tf.control_dependencies([_within_limit(tf.io.extract_jpeg_shape(contents)[:2])]):
            return tf.io.decode_jpeg(contents, channels=3, dct_method=_DCT)

    is_jpeg = _is_jpeg(contents)
    way = tf.where(is_jpeg, 0, 1)
    image = tf.switch_case(
        tf.where(_is_upright(contents, is_jpeg), way, 2),
        [decode_jpeg, lambda: _decode_png(contents), lambda: _decode_otherwise(contents)],
    )
    image.set_shape((None, None, 3))
    return image


def _decode_png(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(contents, channels=3)


def _decode_otherwise(contents: tf.Tensor) -> tf.Tensor:
    # All cases in one operation. Bytes that are no tensor yet would lose zeros at their end.
    contents = tf.convert_to_tensor(contents)
    return tf.numpy_function(_decode_in_python, [contents], tf.uint8, stateful=False)


def decode_window(
    contents: tf.Tensor,
    choose: Callable[[tf.Tensor], dict[str, Any]],
    size: tf.Tensor,
) -> tuple[tf.Tensor, dict[str, Any]]:
    """Decodes a window of an image that is going to be resized.

    Upright JPEGs are decoded by the fused operation, which skips the lines and columns outside of
    the window, and so takes little memory for the largest of them. Where the window is at least
    twice (4, 8 times) the target in both directions, the decoder also halves the picture (to a
    quarter, an eighth) inside its cosine transform: that is cheaper, and closer to an area average
    than bilinear sampling alone would be.

    Args:
        contents: Scalar string, the bytes of the image.
        choose: Takes the upright image's shape (height and width, int32), returns `window`, int32
            `(top, left, height, width)`, and whatever else follows from the shape; of these `frame`
            is `Geometry`'s.
        size: Height and width that the window will be resized to where there is no frame, int32.

    Returns:
        uint8 `(h, w, 3)`, the window's pixels, perhaps fewer of them; and what `choose` returned.

    Raises:
        tf.errors.OpError: When run on bytes that are no image, or one cut short.
    """

    # The fused decoder never reads what lies below its window: a file that does not close with the
    # end-of-image mark takes the slow way, on which a missing part is an error.
    closed = tf.strings.substr(contents, -2, 2) == b"\xff\xd9"
    is_jpeg = _is_jpeg(contents)
    is_upright = _is_upright(contents, is_jpeg)
    is_fused = is_jpeg & closed & is_upright
    is_png = ~is_jpeg & is_upright

    def shape_alone():
        return tf.zeros((0, 0, 3), tf.uint8), tf.io.extract_jpeg_shape(contents)

    def whole(decode):
        image = decode(contents)
        return image, tf.shape(image)

    # One choice of the window for all ways: what a branch holds that is not taken costs nearly as
    # much as what is.
    image, shape = tf.switch_case(
        tf.where(is_fused, 0, tf.where(is_png, 1, 2)),
        [shape_alone, lambda: whole(_decode_png), lambda: whole(_decode_otherwise)],
    )
    image.set_shape((None, None, 3))
    chosen = choose(shape[:2])
    window = chosen["window"]
    target = chosen["frame"][2:] if "frame" in chosen else size
    branch = tf.reduce_sum(tf.cast(tf.reduce_min(window[2:] // target) >= _RATIOS[1:], tf.int32))
    # Place and size rounded down, so that the window stays inside of the small picture.
    reduced = window // tf.gather(_RATIOS, branch)

    def decode(ratio):
        return tf.image.decode_and_crop_jpeg(
            contents, reduced, channels=3, ratio=ratio, dct_method=_DCT
        )

    pixels = tf.switch_case(
        tf.where(is_fused, branch, len(_RATIOS)),
        [*(lambda ratio=ratio: decode(ratio) for ratio in _RATIOS), lambda: cut(image, window)],
    )
    pixels.set_shape((None, None, 3))
    return pixels, chosen
