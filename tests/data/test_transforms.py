import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from mobilevit_keras.data.transforms import (
    centre_window,
    crop_fractions,
    decode_crop_resize,
    decode_image,
    evaluation_size,
    evaluation_transform,
    load_images,
    random_window,
)
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_exif_orientation(orientation, byte_order):
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F], exif[0x0112], exif[0x0132] = "Maker", orientation, "2020:01:01 00:00:00"
    contents = encode(smooth_image(1, 40, 64), "JPEG", exif=exif.tobytes(), quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    expected = np.asarray(upright)
    decoded = decode_image(tf.constant(contents)).numpy()
    assert decoded.shape == expected.shape
    np.testing.assert_array_equal(decoded, expected)
    height, width = expected.shape[:2]
    trained = decode_crop_resize(tf.constant(contents), whole, height, width, False)
    np.testing.assert_array_equal(np.round(trained * 255.0, 3), expected)


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
    with pytest.raises(tf.errors.OpError):
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


def torchvision_crops(generator, height, width, count, area, aspect):
    """RandomResizedCrop.get_params as published, in Python floats."""
    crops = []
    for _ in range(count):
        for _ in range(10):
            target = height * width * generator.uniform(*area)
            ratio = np.exp(generator.uniform(np.log(aspect[0]), np.log(aspect[1])))
            w, h = round(np.sqrt(target * ratio)), round(np.sqrt(target / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = generator.integers(0, height - h + 1)
                left = generator.integers(0, width - w + 1)
                break
        else:
            ratio = width / height
            w = width if ratio <= aspect[1] else round(height * aspect[1])
            h = height if ratio >= aspect[0] else round(width / aspect[0])
            top, left = (height - h) // 2, (width - w) // 2
        crops.append((top, left, h, w))
    return np.array(crops)


@pytest.mark.parametrize("shape", [(375, 500), (500, 200), (8, 8)])
def test_random_windows_follow_the_published_distribution(shape):
    count = 4000
    random = tf.random.stateless_uniform((count, 10, 2), (1, 2))
    place = tf.random.stateless_uniform((count, 2), (3, 4))
    fractions = crop_fractions(random, (0.08, 1.0))
    draws = tf.data.Dataset.from_tensor_slices((fractions, place))
    windows = draws.map(lambda *draw: random_window(tf.constant(shape), *draw)).batch(count)
    windows = next(iter(windows)).numpy()
    assert windows.min() >= 0
    assert np.all(windows[:, :2] + windows[:, 2:] <= shape)
    assert np.all(windows[:, 2:] > 0)
    expected = torchvision_crops(
        np.random.default_rng(0), *shape, count, (0.08, 1.0), (3 / 4, 4 / 3)
    )
    for mine, theirs in zip(windows.T, expected.T, strict=True):
        for moment in (np.mean, np.std):
            assert moment(mine) == pytest.approx(moment(theirs), rel=0.05)


def test_windows_of_very_long_images_are_centred():
    fractions = crop_fractions(tf.random.stateless_uniform((10, 2), (1, 1)), (0.9, 1.0))
    wide = random_window(tf.constant([10, 200]), fractions, tf.constant([0.9, 0.9]))
    assert wide.numpy().tolist() == [0, 93, 10, 13]  # 13 = round(10 * 4/3); (200 - 13) // 2
    tall = random_window(tf.constant([200, 12]), fractions, tf.constant([0.9, 0.9]))
    assert tall.numpy().tolist() == [92, 0, 16, 12]  # 16 = 12 / (3/4)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((100, 200), (32, 32), [0, 50, 100, 100]),
        ((300, 200), (160, 160), [50, 0, 200, 200]),
        ((300, 200), (32, 64), [100, 0, 100, 200]),
        ((1, 1), (32, 32), [0, 0, 1, 1]),
    ],
)
def test_centre_window(shape, size, expected):
    assert centre_window(tf.constant(shape), *size).numpy().tolist() == expected


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


CASES = json.loads(
    (Path(__file__).parent / "preprocessing_cases.json").read_text(encoding="utf-8")
)["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['image']}-{case['crop']}")
def test_every_runtime_resizes_to_the_same_size(case):
    shape, crop = tf.constant(case["image"]), tuple(case["crop"])
    resized = evaluation_size(shape, case["short_side"], crop)
    assert resized.numpy().tolist() == case["resized"]
    assert ((resized - crop) // 2).numpy().tolist() == case["offset"]


def test_a_crop_of_unequal_sides():
    image = smooth_image(5, 60, 80)
    result = evaluation_transform(tf.constant(encode(image, "PNG")), 27, (32, 24))
    expected = bilinear(image, 36, 48)[2:34, 12:36]
    np.testing.assert_allclose(result, expected / 255, atol=1e-5)


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
    with pytest.raises(ValueError, match=r"readable JPEG, PNG, BMP or GIF.*text\.png"):
        load_images([tmp_path / "text.png"], 64, 64)
