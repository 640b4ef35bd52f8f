import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data.crops import centre_window, crop_fractions, random_window


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
