import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers.resize import _aligned_along, resize_aligned


def by_interpolation(x, height, width):
    """NumPy's own interpolation, one line of pixels after another."""
    for axis, size in ((1, height), (2, width)):
        old = np.arange(x.shape[axis])
        places = np.linspace(0, x.shape[axis] - 1, size)
        x = np.apply_along_axis(lambda line, o=old, p=places: np.interp(p, o, line), axis, x)
    return x


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (9, 7), (5, 7)])
def test_corners_are_aligned(rng, size):
    x = rng.standard_normal((2, 5, 7, 3)).astype("float32")
    expected = by_interpolation(x, *size)
    np.testing.assert_allclose(resize_aligned(x, *size), expected, atol=1e-6)
    # As any backend does it.
    other = _aligned_along(_aligned_along(x, 1, size[0]), 2, size[1])
    np.testing.assert_allclose(other, expected, atol=1e-6)


def test_a_single_pixel_is_repeated(rng):
    x = rng.standard_normal((1, 1, 1, 3)).astype("float32")
    expected = np.broadcast_to(x, (1, 2, 2, 3))
    np.testing.assert_array_equal(resize_aligned(x, 2, 2), expected)
    np.testing.assert_array_equal(_aligned_along(_aligned_along(x, 1, 2), 2, 2), expected)


def test_sizes_that_only_the_run_knows(rng):
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def larger(x):
        return resize_aligned(x, tf.shape(x)[1] + 1, tf.shape(x)[2] + 1)

    for size in ((3, 5), (1, 4)):
        x = rng.standard_normal((1, *size, 3)).astype("float32")
        expected = by_interpolation(x, size[0] + 1, size[1] + 1)
        np.testing.assert_allclose(larger(x), expected, atol=1e-6)


def test_half_precision_stays(rng):
    x = rng.standard_normal((1, 3, 3, 2)).astype("float16")
    assert resize_aligned(x, 4, 4).dtype == "float16"
