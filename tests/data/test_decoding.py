import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from mobilevit_keras.data import decoding
from mobilevit_keras.data.decoding import decode_image, decode_window
from mobilevit_keras.data.geometry import Geometry
from mobilevit_keras.data.images import evaluation_transform, load_images
from tests.data.images import encode, smooth_image


def pillow(contents: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(contents)).convert("RGB"))


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Half-pixel bilinear sampling without antialiasing, written out as two matrices."""

    def matrix(size, target):
        at = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, size - 1)
        weights = np.zeros((target, size))
        np.add.at(weights, (np.arange(target), low), 1 - (at - low))
        np.add.at(weights, (np.arange(target), high), at - low)
        return weights

    rows, columns = matrix(image.shape[0], height), matrix(image.shape[1], width)
    return np.einsum("yi,xj,ijc->yxc", rows, columns, image.astype(np.float64), optimize=True)


def decode_crop_resize(contents, window, height, width, flip):
    size = tf.constant([height, width])
    pixels, chosen = decode_window(contents, lambda shape: {"window": window(shape)}, size)
    return Geometry(size=size, flip=flip, **chosen).resize(pixels)


def whole(shape):
    return tf.concat([[0, 0], shape], 0)


def image_in_mode(mode: str) -> Image.Image:
    image = Image.fromarray(smooth_image(3, 45, 61))
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(smooth_image(4, 45, 61)[..., 0]))
        return image
    return image.convert(mode)


@pytest.mark.parametrize(
    ("image_format", "mode", "tolerance"),
    [
        ("PNG", "RGB", 0),
        ("PNG", "L", 0),
        ("PNG", "LA", 0),
        ("PNG", "RGBA", 0),
        ("PNG", "P", 0),
        ("PNG", "1", 0),
        ("BMP", "RGB", 0),
        ("BMP", "RGBA", 0),
        ("BMP", "L", 0),
        ("BMP", "P", 0),
        ("BMP", "1", 0),
        ("GIF", "P", 0),
        ("GIF", "L", 0),
        ("JPEG", "RGB", 0),
        ("JPEG", "L", 0),
        ("JPEG", "CMYK", 3),
    ],
)
def test_formats_and_modes_decode_as_in_pillow(image_format, mode, tolerance):
    buffer = io.BytesIO()
    image_in_mode(mode).save(buffer, image_format)
    decoded = decode_image(tf.constant(buffer.getvalue())).numpy()
    assert decoded.shape == (45, 61, 3)
    difference = np.abs(decoded.astype(int) - pillow(buffer.getvalue()))
    assert difference.max() <= tolerance


def test_first_frame_of_a_gif():
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (40, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    decoded = decode_image(tf.constant(buffer.getvalue())).numpy()
    np.testing.assert_array_equal(decoded, np.full((20, 30, 3), 40))


FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"]


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment right after its start."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + jpeg[2:]


def with_chunk_at_the_end(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk before its last one."""
    checked = kind + content
    chunk = struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
    return png[:-12] + chunk + png[-12:]


def exif_of(orientation: int, byte_order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F], exif[0x0112], exif[0x0132] = "Maker", orientation, "2020:01:01 00:00:00"
    return exif.tobytes()


def assert_upright(contents: bytes, orientation: int) -> None:
    """Every way of decoding turns the image as Pillow's function does."""
    stored = Image.open(io.BytesIO(contents))
    upright = ImageOps.exif_transpose(stored)
    expected = np.asarray(upright.convert("RGB"))
    # Not vacuous: the sides are exchanged, or pixels move.
    assert expected.shape[:2] == ((40, 64) if orientation < 5 else (64, 40))
    decoded = decode_image(tf.constant(contents)).numpy()
    np.testing.assert_array_equal(decoded, expected)
    height, width = expected.shape[:2]
    trained = decode_crop_resize(tf.constant(contents), whole, height, width, False)
    np.testing.assert_array_equal(np.round(trained * 255.0, 3), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", FORMATS)
def test_exif_orientation(orientation, image_format):
    for byte_order in "<>":
        options = {"exif": exif_of(orientation, byte_order), "quality": 95}
        if image_format == "WEBP":
            options["lossless"] = True
        assert_upright(encode(smooth_image(1, 40, 64), image_format, **options), orientation)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_far_from_the_start(orientation):
    image, exif = smooth_image(1, 40, 64), exif_of(orientation)
    jpeg = with_segment(encode(image, "JPEG"), 0xE1, exif)
    # XMP data of many pages, which mention EXIF, and a colour profile come first.
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + b"<x>Exif\0\0</x>" * 4000
    profile = b"ICC_PROFILE\0\1\1" + b"\xff\xdb\xff\xda" * 500
    for content, marker in ((xmp, 0xE1), (profile, 0xE2), (xmp, 0xE1)):
        jpeg = with_segment(jpeg, marker, content)
    assert_upright(jpeg, orientation)
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    for pixels in (image, noise):  # One PNG below the size to which they are searched, one above.
        png = with_chunk_at_the_end(encode(pixels, "PNG"), b"eXIf", exif.removeprefix(b"Exif\0\0"))
        assert_upright(png, orientation)


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"no EXIF data", b"II*\0\xff\xff\xff\xff", exif_of(9), exif_of(1)[:30]]
)
def test_exif_data_that_say_nothing(exif):
    image = smooth_image(1, 40, 64)
    contents = encode(image, "PNG")
    png = with_chunk_at_the_end(contents, b"eXIf", exif.removeprefix(b"Exif\0\0"))
    np.testing.assert_array_equal(decode_image(tf.constant(png)), image)
    jpeg = with_segment(encode(image, "JPEG"), 0xE1, b"Exif\0\0" + exif.removeprefix(b"Exif\0\0"))
    assert decode_image(tf.constant(jpeg)).shape == (40, 64, 3)


def test_orientation_in_xmp_data_alone_counts_nowhere():
    """Pillow would take it; browsers do not."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"></x:xmpmeta>'
    image = smooth_image(1, 40, 64)
    for image_format in ("WEBP", "JPEG", "PNG"):
        contents = encode(image, image_format, xmp=xmp)
        assert decode_image(tf.constant(contents)).shape == (40, 64, 3), image_format


MODES = {
    "WEBP": ("RGB", "RGBA", "L", "P", "CMYK", "1"),
    "TIFF": ("RGB", "RGBA", "L", "P", "CMYK", "1"),
    "AVIF": ("RGB", "RGBA", "L", "P", "CMYK", "1"),
    "JPEG2000": ("RGB", "RGBA", "L", "CMYK"),
    "PPM": ("RGB", "RGBA", "L", "1"),
}


@pytest.mark.parametrize(
    ("image_format", "mode"), [(each, mode) for each, modes in MODES.items() for mode in modes]
)
def test_other_formats_decode_by_pillow(image_format, mode):
    buffer = io.BytesIO()
    image_in_mode(mode).save(buffer, image_format)
    contents = buffer.getvalue()
    np.testing.assert_array_equal(decode_image(tf.constant(contents)), pillow(contents))


def test_sixteen_bits_keep_their_high_byte():
    deep = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64) * 25
    expected = (deep >> 8).astype(np.uint8)[..., None].repeat(3, 2)
    for image_format in ("TIFF", "PNG"):
        buffer = io.BytesIO()
        Image.fromarray(deep).save(buffer, image_format)
        decoded = decode_image(tf.constant(buffer.getvalue()))
        np.testing.assert_array_equal(decoded, expected)


def huge_png() -> bytes:
    """A PNG of 400 megapixels, all of one colour, in half a megabyte."""
    rows = zlib.compress(bytes(2501) * 20000, 9)  # one bit a pixel, and each row's filter

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def huge_jpeg() -> bytes:
    """The start of a JPEG that says that it has 400 megapixels."""
    contents = bytearray(encode(smooth_image(1, 40, 64), "JPEG"))
    place = contents.index(b"\xff\xc0")
    contents[place + 5 : place + 9] = struct.pack(">HH", 20000, 20000)
    return bytes(contents)


def huge_tiff() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (20000, 20000)).save(buffer, "TIFF", compression="tiff_deflate")
    return buffer.getvalue()


@pytest.mark.parametrize("make", [huge_png, huge_jpeg, huge_tiff])
def test_images_of_too_many_pixels_are_refused_at_once(make, tmp_path):
    contents = make()
    top = tf.constant([0, 0, 8, 8])
    for decode in (
        decode_image,
        lambda contents: decode_window(
            contents, lambda shape: {"window": top}, tf.constant([8, 8])
        ),
    ):
        with pytest.raises((tf.errors.OpError, ValueError)):
            decode(tf.constant(contents))
    (tmp_path / "huge").write_bytes(contents)
    with pytest.raises(ValueError, match=r"image is needed. Received: .*huge \(.*megapixels"):
        load_images([tmp_path / "huge"], 64, 64)


def test_heic_files_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_readable_formats", lambda: ("JPEG", "PNG"))
    (tmp_path / "1.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ValueError, match=r"1.heic \(a HEIC file: install pillow-heif\)"):
        load_images([tmp_path / "1.heic"], 64, 64)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.95])
def test_truncated_images_are_errors(image_format, part):
    contents = encode(
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), image_format
    )
    contents = contents[: int(len(contents) * part)]
    top = tf.constant([0, 0, 8, 8])  # The fused JPEG decoder would never come to the missing part.
    with pytest.raises((tf.errors.OpError, ValueError)):
        decode_crop_resize(tf.constant(contents), lambda shape: top, 32, 32, False)
    with pytest.raises((tf.errors.OpError, ValueError)):
        evaluation_transform(tf.constant(contents), 32, 32)


def test_text_is_no_image():
    with pytest.raises(ValueError, match="Pillow cannot read the image"):
        decode_image(tf.constant(b"no image at all"))


@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_resize_equal_pillow_and_bilinear_sampling(photos, flip):
    window = tf.constant([31, 18, 120, 97])
    for path in photos[:3]:
        contents = path.read_bytes()
        image = pillow(contents)
        crop = image[31 : 31 + 120, 18 : 18 + 97]
        expected = bilinear(crop[:, ::-1] if flip else crop, 160, 96)
        result = decode_crop_resize(tf.constant(contents), lambda shape: window, 160, 96, flip)
        assert result.shape == (160, 96, 3)
        # Chroma upsampling at the window's edge sees other neighbours: a few values differ.
        difference = np.abs(result.numpy() * 255 - expected)
        assert np.quantile(difference, 0.95) <= 1.0
        assert difference.mean() <= 0.5


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_large_windows_are_averaged(ratio):
    """Of a window r times the target, the decoder yields nearly the mean of each r x r pixels."""
    image = smooth_image(7, 32 * ratio + 8, 48 * ratio + 8)
    contents = encode(image, "JPEG", quality=97, subsampling=0)
    window = tf.constant([8, 8, 32 * ratio, 48 * ratio])
    result = decode_crop_resize(tf.constant(contents), lambda shape: window, 32, 48, False)
    blocks = pillow(contents)[8:, 8:].reshape(32, ratio, 48, ratio, 3)
    assert np.abs(result.numpy() * 255 - blocks.mean((1, 3))).mean() < 1.5


def test_small_images_are_enlarged():
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    contents = tf.constant(encode(image, "PNG"))
    result = decode_crop_resize(contents, whole, 64, 48, False)
    np.testing.assert_allclose(result * 255.0, bilinear(image, 64, 48), atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(60, 90), (91, 61), (48, 48)])
def test_evaluation_transform_equals_bilinear_sampling(height, width):
    image = smooth_image(5, height, width)
    short = min(height, width)
    resized = bilinear(image, height * 48 // short, width * 48 // short)
    top, left = (resized.shape[0] - 40) // 2, (resized.shape[1] - 40) // 2
    expected = resized[top : top + 40, left : left + 40] / 255
    result = evaluation_transform(tf.constant(encode(image, "PNG")), 48, 40)
    assert result.dtype == tf.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_bicubic_keeps_a_ramp_and_the_range():
    ramp = np.repeat(np.arange(0, 256, 4, np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    result = evaluation_transform(tf.constant(encode(ramp, "PNG")), 128, 96, "bicubic").numpy()
    columns = (np.arange(16, 112) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(result[40, :, 1], columns * 4 / 255, atol=1e-5)
    checks = np.indices((16, 16)).sum(0)[..., None].repeat(3, 2) % 2 * 255
    edges = tf.constant(encode(checks.astype(np.uint8), "PNG"))
    result = evaluation_transform(edges, 64, 64, "bicubic").numpy()
    assert result.min() == 0.0
    assert result.max() == 1.0


def test_bytes_that_end_in_zeros_are_decoded_whole():
    """As numpy stores them, strings end before their last zeros."""
    black = encode(np.zeros((4, 4, 3), np.uint8), "BMP")
    assert black.endswith(b"\0" * 16)
    np.testing.assert_array_equal(decode_image(black), np.zeros((4, 4, 3)))


def test_load_images(photos):
    images = load_images(photos[:2], 64, 48)
    assert images.shape == (2, 48, 48, 3)
    single = evaluation_transform(tf.constant(photos[1].read_bytes()), 64, 48)
    np.testing.assert_array_equal(images[1], single)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="crop_size=65, short_side=64"):
        load_images([], 64, 65)
    with pytest.raises(ValueError, match="Received: 'nearest'"):
        evaluation_transform(tf.constant(b""), 64, 64, "nearest")
    with pytest.raises(FileNotFoundError, match="absent.png"):
        load_images([tmp_path / "absent.png"], 64, 64)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"readable image is needed.*text\.png"):
        load_images([tmp_path / "text.png"], 64, 64)
