import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data.geometry import (
    Geometry,
    centre_window,
    crop_fractions,
    evaluation_geometry,
    evaluation_size,
    random_window,
)


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


CASES = json.loads((Path(__file__).parent / "preprocessing_cases.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_resize_and_crop_of_the_table_that_all_runtimes_read(case):
    shape = tf.constant(case["image"])
    resized = evaluation_size(shape, case["short_side"], tuple(case["crop"]))
    assert resized.numpy().tolist() == case["resized"]
    geometry = evaluation_geometry(shape, case["short_side"], tuple(case["crop"]))
    scale = np.divide(case["resized"], case["image"])
    np.testing.assert_allclose(geometry.window[:2] * scale, case["offset"], atol=1e-3)
    np.testing.assert_allclose(geometry.window[2:] * scale, case["crop"], rtol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_and_masks_follow_the_pixels_and_come_back(flip):
    """A bright rectangle in an image: its box and its mask end up where its pixels do."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40, 30:60] = 255
    mask = (image[..., 0] > 0).astype(np.uint8)
    box = np.array([[30, 20, 60, 40]], np.float32)
    geometry = Geometry(tf.constant([10, 20, 40, 50]), (80, 100), flip)
    pixels = geometry.image(tf.constant(image)).numpy()
    moved = geometry.mask(tf.constant(mask)).numpy()
    assert pixels.shape == (80, 100, 3) and moved.dtype == np.uint8
    rows, columns = np.nonzero(pixels[..., 0] > 0.5)
    np.testing.assert_array_equal(np.nonzero(moved), (rows, columns))
    found = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    np.testing.assert_allclose(geometry.boxes(box), found, atol=1e-4)
    np.testing.assert_allclose(geometry.boxes_back(geometry.boxes(box)), box, atol=1e-4)
    back = geometry.mask_back(tf.constant(moved), (60, 80)).numpy()
    inside = np.zeros((60, 80), bool)
    inside[10:50, 20:70] = True
    np.testing.assert_array_equal(back, np.where(inside, mask, 255))


@pytest.mark.parametrize("flip", [False, True])
def test_masks_are_255_outside_of_the_image(flip):
    mask = tf.constant(np.arange(12, dtype=np.uint8).reshape(3, 4))
    found = Geometry(tf.constant([-1, -2, 5, 8]), (5, 8), flip).mask(mask).numpy()
    expected = np.full((5, 8), 255, np.uint8)
    expected[1:4, 2:6] = mask
    np.testing.assert_array_equal(found, expected[:, ::-1] if flip else expected)


def test_evaluations_window_lies_where_its_pixels_come_from():
    """A column that rises from left to right tells where each pixel was taken."""
    geometry = evaluation_geometry(tf.constant([100, 200]), 50, (40, 60))
    # The box for 40 x 60 is 50 x 75; the image becomes 50 x 100, cut at (5, 20).
    np.testing.assert_allclose(geometry.window, [10, 40, 80, 120], atol=1e-4)
