import colorsys

import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data import augmentation as augmentation_module
from mobilevit_keras.data.augmentation import (
    AdvancedAugmentation,
    AdvancedPolicy,
    PhotometricAugmentation,
)
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from tests.data.images import NumberedImages, painted_source, smooth_image

ARGUMENTS = {"sizes": (32, 48), "base_size": 32, "batch_size": 16}


def seed(*values):
    return tf.constant(values, tf.int64)


def batch(count=12, size=32):
    """Images of one colour each, so that a pixel tells which image it is from."""
    colours = (np.arange(count) + 1) / (count + 1)
    images = np.broadcast_to(colours[:, None, None, None], (count, size, size, 3))
    return images.astype(np.float32), np.arange(count), colours


def make(count=12, size=32, **policy):
    policy = AdvancedPolicy(**policy)
    return AdvancedAugmentation(policy, count, [(count, size, size), (5, 48, 48)])


def test_cut_mix_labels_are_the_areas():
    augmentation = make(cutmix_probability=1.0, erase_probability=0.0)
    images, labels, colours = batch()
    mixed, soft = augmentation.batch(images, labels, seed(0, 1))
    np.testing.assert_allclose(np.sum(soft, 1), 1.0, atol=1e-6)
    for image, label, own in zip(mixed.numpy(), soft.numpy(), colours, strict=True):
        others = np.flatnonzero(label)
        assert len(others) <= 2
        # Every pixel is of one of the two images; their share is the label's, up to the borders
        # of a rectangle that need not fall between pixels.
        shares = [np.isclose(image[..., 0], colours[index], atol=1e-6).mean() for index in others]
        assert sum(shares) == pytest.approx(1.0)
        np.testing.assert_allclose(shares, label[others], atol=4 * 32 / 32**2)
        assert own in colours[others]


def test_mix_up_labels_are_the_weights():
    augmentation = make(cutmix_probability=0.0, erase_probability=0.0, mixup_alpha=1.0)
    images, labels, colours = batch()
    mixed, soft = augmentation.batch(images, labels, seed(0, 1))
    expected = soft.numpy() @ colours
    np.testing.assert_allclose(mixed[:, 3, 5, 0], expected, atol=1e-5)
    np.testing.assert_allclose(np.sum(soft, 1), 1.0, atol=1e-5)
    assert np.ptp(mixed.numpy().reshape(12, -1), 1).max() < 1e-6
    assert len(np.unique(np.max(soft, 1).round(4))) > 3


def test_erased_share():
    count = 400
    augmentation = make(count, erase_probability=0.25, cutmix_probability=0.0, mixup_alpha=0.1)
    images, labels, _ = batch(count)
    mixed, soft = augmentation.batch(images, labels, seed(3, 4))
    whole = np.max(soft, 1) > 0.999  # MixUp so weak leaves many images as they are.
    erased = np.ptp(mixed.numpy().reshape(count, -1), 1) > 0.1
    assert whole.mean() > 0.3
    assert abs(erased[whole].mean() - 0.25) < 0.08


def test_known_shapes_have_their_own_branch():
    augmentation = make()
    for size, count in ((32, 12), (48, 5)):
        images, labels, _ = batch(count, size)
        mixed, soft = augmentation.batch(images, labels, seed(1, 1))
        assert mixed.shape == images.shape
        assert soft.shape == (count, 12)


def test_rand_augment_keeps_shape_and_range_and_depends_on_its_seed():
    image = tf.constant(smooth_image(0, 40, 56) / 255, tf.float32)
    augmentation = make()
    dataset = tf.data.Dataset.range(60).map(
        lambda number: augmentation.image(image, tf.stack([number, 0]))
    )
    results = np.stack(list(dataset.as_numpy_iterator()))
    assert results.shape == (60, 40, 56, 3)
    assert results.min() >= 0
    assert results.max() <= 1
    np.testing.assert_array_equal(results, np.stack(list(dataset.as_numpy_iterator())))
    changed = np.abs(results - image).mean((1, 2, 3)) > 0.01 / 255
    assert changed.mean() > 0.8
    assert len(np.unique((255 * results.mean((1, 2, 3))).round(3))) > 40
    # No operation may turn the image into something else at this strength.
    assert np.median(np.abs(results - image).mean((1, 2, 3))) < 60 / 255


def test_photometric_changes_keep_shape_and_range_and_depend_on_their_seed():
    image = tf.constant(smooth_image(0, 40, 56) / 255, tf.float32)
    augmentation = PhotometricAugmentation()
    dataset = tf.data.Dataset.range(200).map(
        lambda number: augmentation.image(image, tf.stack([number, 0]))
    )
    results = np.stack(list(dataset.as_numpy_iterator()))
    assert results.shape == (200, 40, 56, 3)
    assert results.min() >= 0 and results.max() <= 1 + 1e-6
    np.testing.assert_array_equal(results, np.stack(list(dataset.as_numpy_iterator())))
    # One in sixteen is not changed at all, and hardly two are alike.
    same = np.abs(results - image).max((1, 2, 3)) < 1e-6
    assert abs(same.mean() - 1 / 16) < 0.05
    assert len(np.unique(results[~same].mean((1, 2, 3)).round(7))) > 170


def hsv(colours):
    return np.array([colorsys.rgb_to_hsv(*colour) for colour in np.reshape(colours, (-1, 3))])


@pytest.mark.parametrize("which", ["brightness", "contrast", "saturation", "hue"])
def test_each_photometric_change_goes_as_far_as_ssds(which):
    """On a picture of two colours that no change drives out of the range."""
    augmentation = PhotometricAugmentation()
    index = ("brightness", "contrast", "saturation", "hue").index(which)
    augmentation._operations = augmentation._operations[index : index + 1]
    colours = np.array([[0.5, 0.4, 0.3], [0.4, 0.5, 0.45]], np.float32)
    image = tf.constant(colours[:, None].repeat(2, 1))
    dataset = tf.data.Dataset.range(400).map(
        lambda number: augmentation.image(image, tf.stack([number, 7]))
    )
    results = np.stack(list(dataset.as_numpy_iterator()))[:, :, 0]
    if which == "brightness":
        change = (results - colours).reshape(400, -1)
        assert np.ptp(change, 1).max() < 1e-6
        least, most, found = -32 / 255, 32 / 255, change[:, 0]
    elif which == "contrast":
        ratio = (results[:, 0] - results[:, 1]) / (colours[0] - colours[1])
        assert np.ptp(ratio, 1).max() < 1e-4
        np.testing.assert_allclose(results.mean(1), np.tile(colours.mean(0), (400, 1)), atol=1e-5)
        least, most, found = 0.5, 1.5, ratio[:, 0]
    elif which == "saturation":
        ratio = (hsv(results)[:, 1] / np.tile(hsv(colours)[:, 1], 400)).reshape(400, 2)
        assert np.ptp(ratio, 1).max() < 1e-4
        least, most, found = 0.5, 1.5, ratio[:, 0]
    else:
        turn = hsv(results)[:, 0] - np.tile(hsv(colours)[:, 0], 400)
        turn = ((turn + 0.5) % 1 - 0.5).reshape(400, 2)
        assert np.ptp(turn, 1).max() < 1e-4
        least, most, found = -0.05, 0.05, turn[:, 0]
    room = most - least
    assert least - 0.01 * room < found.min() < least + 0.1 * room
    assert most - 0.1 * room < found.max() < most + 0.01 * room
    assert abs((np.abs(found - found.mean().round(1)) < 1e-3 * room).mean() - 0.5) < 0.1


def test_saturation_and_hue_are_what_the_layers_would_do():
    images = tf.constant(smooth_image(0, 40, 56)[None] / 255, tf.float32)
    for operation in PhotometricAugmentation()._operations:
        for number in range(5):
            wanted = augmentation_module._apply(operation.args[0], images, seed(number, 3))
            np.testing.assert_allclose(operation(images, seed(number, 3)), wanted, atol=1e-5)


def test_what_lies_around_an_image_stays_black():
    dataset = MultiScaleDataset(
        painted_source(), **ARGUMENTS, crop="short_side", augmentation="photometric"
    )
    black = changed = 0
    for images, masks in dataset.epoch(0):
        outside = masks.numpy() == 255
        assert np.all(images.numpy()[outside] == 0)
        black += outside.sum()
        inside = images.numpy()[~outside]
        changed += np.mean(np.abs(inside - inside.round()).max(-1) > 0.02)
    assert black > 0 and changed > 0


def test_no_operations_change_nothing():
    image = tf.constant(smooth_image(0, 40, 56) / 255, tf.float32)
    np.testing.assert_array_equal(make(num_ops=0).image(image, seed(1, 2)), image)


def test_half_precision_policies_do_not_reach_the_pixels():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed, soft = make().batch(*batch()[:2], seed(0, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert mixed.dtype == soft.dtype == tf.float32


def test_pipeline_is_deterministic_and_gives_soft_labels():
    source = NumberedImages(60)

    def play(start=0):
        pipeline = MultiScaleDataset(source, **ARGUMENTS, augmentation="advanced", seed=2)
        dataset = pipeline.epoch(1, start)
        assert dataset.element_spec[1] == tf.TensorSpec((None, 60), tf.float32)
        return [(images.numpy(), labels.numpy()) for images, labels in dataset]

    whole = play()
    for images, labels in whole:
        assert images.min() >= 0
        assert images.max() <= 1
        np.testing.assert_allclose(labels.sum(1), 1.0, atol=1e-5)
    for (images, labels), (again, labels_again) in zip(whole[2:], play(2), strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, labels_again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_ops": -1}, "`num_ops` must not be negative. Received: -1"),
        ({"magnitude": 1.5}, "`magnitude` must be between 0 and 1. Received: 1.5"),
        ({"mixup_alpha": 0.0}, "`mixup_alpha` must be between 0.1 and 1"),
    ],
)
def test_bad_policies(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdvancedPolicy(**arguments)


def test_a_policy_needs_the_advanced_set():
    with pytest.raises(ValueError, match="`policy` needs `augmentation='advanced'`"):
        MultiScaleDataset(NumberedImages(40), **ARGUMENTS, policy=AdvancedPolicy())
