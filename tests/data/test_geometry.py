import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data.geometry import (
    Geometry,
    evaluation_geometry,
    evaluation_image,
    evaluation_size,
)

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


def test_bicubic_crops_are_those_of_evaluation():
    """With overshoot beside every edge of the stripes, which is cut off."""
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, ::4] = image[::5] = 255
    geometry = Geometry(tf.constant([0, 0, 20, 30]), (32, 48))
    window = tf.constant(image)
    found = geometry.resize(window, "bicubic").numpy()
    expected = evaluation_image(window, 32, (32, 48), "bicubic", "stretch").numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found.min(), found.max()) == (0.0, 1.0)
    assert np.abs(found - geometry.resize(window).numpy()).max() > 0.05


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


@pytest.mark.parametrize("flip", [False, True])
def test_a_frame_has_nothing_around_it(flip):
    """Two times enlarged, 8 rows and 6 columns from the corner of a larger black picture."""
    image = np.random.default_rng(0).integers(1, 255, (20, 30, 3), np.uint8)
    mask = np.arange(600, dtype=np.uint8).reshape(20, 30) % 200
    window, frame = tf.constant([5, 10, 10, 12]), tf.constant([8, 6, 20, 24])
    geometry = Geometry(window, (40, 50), flip, frame)
    pixels = geometry.image(tf.constant(image)).numpy()
    assert pixels.shape == (40, 50, 3)
    moved = geometry.mask(tf.constant(mask)).numpy()
    expected = np.full((40, 50), 255, np.uint8)
    expected[8:28, 6:30] = mask[5:15, 10:22].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(moved, expected[:, ::-1] if flip else expected)
    np.testing.assert_array_equal(pixels.max(-1) == 0, moved == 255)
    box = np.array([[10, 5, 22, 15], [11, 7, 13, 10]], np.float32)
    wanted = np.array([[6, 8, 30, 28], [8, 12, 12, 18]], np.float32)
    if flip:
        wanted[:, [0, 2]] = 50 - wanted[:, [2, 0]]
    np.testing.assert_allclose(geometry.boxes(box), wanted)
    np.testing.assert_allclose(geometry.bounds(), wanted[0])
    np.testing.assert_allclose(geometry.boxes_back(wanted), box, atol=1e-5)
    back = geometry.mask_back(tf.constant(moved), (20, 30)).numpy()
    seen = np.zeros((20, 30), bool)
    seen[5:15, 10:22] = True
    np.testing.assert_array_equal(back, np.where(seen, mask, 255))


def test_without_a_frame_the_window_fills_the_size():
    geometry = Geometry(tf.constant([5, 10, 10, 12]), (40, 50))
    assert geometry.bounds().numpy().tolist() == [0, 0, 50, 40]


def test_stretching_takes_the_whole_image():
    geometry = evaluation_geometry(tf.constant([100, 200]), 0, (40, 60), "stretch")
    assert geometry.window.numpy().tolist() == [0, 0, 100, 200]
    assert tuple(geometry.size) == (40, 60)
    image = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    stretched = evaluation_image(tf.constant(image), 0, (40, 60), "bilinear", "stretch")
    np.testing.assert_allclose(stretched, geometry.image(tf.constant(image)), atol=1e-5)


def test_scores_go_back_to_where_their_pixels_come_from():
    """A ramp stays one: its value at each pixel is known, up to the middles of the outer cells."""
    geometry = evaluation_geometry(tf.constant([100, 200]), 50, (40, 60))
    scores = np.add.outer(10.0 * np.arange(4), np.arange(6)).astype(np.float32)
    found = geometry.scores_back(tf.constant(scores), (100, 200)).numpy()
    # The window is 80 x 120 at (10, 40): 20 pixels a cell.
    rows = np.clip((np.arange(100) + 0.5 - 10) / 20 - 0.5, 0, 3)
    columns = np.clip((np.arange(200) + 0.5 - 40) / 20 - 0.5, 0, 5)
    expected = np.add.outer(10.0 * rows, columns)
    inside = np.zeros((100, 200), bool)
    inside[10:90, 40:160] = True
    np.testing.assert_array_equal(np.isnan(found), ~inside)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


@pytest.mark.parametrize("flip", [False, True])
def test_scores_of_all_of_an_image_are_enlarged_to_it(flip):
    scores = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    geometry = Geometry(tf.constant([0, 0, 70, 90]), (32, 48), flip)
    found = geometry.scores_back(tf.constant(scores), (70, 90)).numpy()
    expected = tf.image.resize(scores[None, ..., None], (70, 90))[0, ..., 0].numpy()
    np.testing.assert_allclose(found, expected[:, ::-1] if flip else expected, atol=1e-5)
