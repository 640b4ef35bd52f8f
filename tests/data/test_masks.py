import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilevit_keras.data.masks import decode_mask, read_mask
from tests.data.images import encode

GREY, PALETTE = 0, 3


def png(numbers: np.ndarray, depth: int, colours: int) -> bytes:
    """A PNG file written out by hand: numbers of `depth` bits, grey or of a palette."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width = numbers.shape
    bits = (numbers[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    # Colours that are not the numbers, some of them equal to each other.
    entries = b"".join(bytes([(7 * n) % 256, 200 - n // 2, 9]) for n in range(min(1 << depth, 256)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)),
            chunk(b"PLTE", entries) if colours == PALETTE else b"",
            chunk(b"IDAT", zlib.compress(content)),
            chunk(b"IEND", b""),
        ]
    )


def in_graph(contents, shape, num_classes):
    decode = tf.function(lambda contents: decode_mask(contents, tf.constant(shape), num_classes))
    return decode(tf.constant(contents)).numpy()


@pytest.mark.parametrize(
    ("depth", "colours"),
    [(1, GREY), (2, GREY), (4, GREY), (8, GREY), (16, GREY)]
    + [(1, PALETTE), (2, PALETTE), (4, PALETTE), (8, PALETTE)],
)
def test_the_numbers_of_every_kind_of_png(depth, colours):
    numbers = np.random.default_rng(depth).integers(0, min(1 << depth, 21), (13, 22))
    if depth >= 8:
        numbers[3:5, 4:9] = 255
    contents = png(numbers, depth, colours)
    for found in (in_graph(contents, (13, 22), 21), read_mask(contents)):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, numbers)


def test_palettes_as_other_tools_write_them():
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(numbers, "P")
    image.putpalette([value % 256 for value in range(5, 5 + 3 * 256 * 7, 7)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0)
    np.testing.assert_array_equal(in_graph(buffer.getvalue(), (3, 4), 12), numbers)


NUMBERS = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize(
    ("contents", "shape", "num_classes"),
    [
        (encode(NUMBERS, "PNG"), (4, 3), 12),
        (encode(NUMBERS, "PNG"), (3, 5), 12),
        (png(NUMBERS, 8, PALETTE), (4, 3), 12),
        (encode(NUMBERS, "PNG"), (3, 4), 11),
        (png(NUMBERS, 8, PALETTE), (3, 4), 11),
        (encode(NUMBERS + 243, "PNG"), (3, 4), 254),
        (png(300 * np.ones((3, 4), int), 16, GREY), (3, 4), 12),
        (encode(NUMBERS[..., None].repeat(3, 2), "PNG"), (3, 4), 12),
        (encode(NUMBERS[..., None].repeat(4, 2), "PNG"), (3, 4), 12),
        (encode(NUMBERS[..., None].repeat(2, 2), "PNG"), (3, 4), 12),
        (encode(NUMBERS, "PNG")[:45], (3, 4), 12),
        (encode(NUMBERS, "BMP"), (3, 4), 12),
        (b"", (3, 4), 12),
    ],
    ids=[
        "turned",
        "narrow",
        "turned palette",
        "no such class",
        "no such class in a palette",
        "only 255 is no class",
        "sixteen bits",
        "colours",
        "colours and alpha",
        "grey and alpha",
        "cut short",
        "no PNG",
        "empty",
    ],
)
def test_masks_that_do_not_fit(contents, shape, num_classes):
    with pytest.raises(tf.errors.OpError):
        in_graph(contents, shape, num_classes)


def test_what_is_wrong_is_said_in_words():
    with pytest.raises(ValueError, match="its mask is RGB, colours in place of class numbers"):
        read_mask(encode(NUMBERS[..., None].repeat(3, 2), "PNG"))
    with pytest.raises(ValueError, match="its mask holds 300, and at most 255"):
        read_mask(png(300 * np.ones((3, 4), int), 16, GREY))
    for contents in (b"", b"text", encode(NUMBERS, "BMP"), encode(NUMBERS, "PNG")[:45]):
        with pytest.raises(ValueError, match="its mask is no PNG file that can be read"):
            read_mask(contents)
