import numpy as np
import pytest

from mobilevit_keras.layers import MapNorm
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize("affine", [True, False])
def test_layer(affine):
    check_layer(MapNorm(affine), [(2, 4, 6, 8), (1, 4, 9, 8)])


def test_one_mean_and_variance_for_each_image(rng):
    norm = MapNorm(epsilon=0.1)
    x = (rng.standard_normal((2, 4, 6, 8)) * [[[[3.0]]], [[[0.2]]]] + 1.0).astype("float32")
    norm(x)
    norm.gamma.assign(np.arange(8))
    norm.beta.assign(np.arange(8)[::-1])
    for image, y in zip(x.astype("float64"), norm(x), strict=True):
        expected = (image - image.mean()) / np.sqrt(image.var() + 0.1)
        np.testing.assert_allclose(y, expected * np.arange(8) + np.arange(8)[::-1], atol=1e-5)


def test_its_statistics_are_float32_where_the_map_is_float16(rng):
    norm = MapNorm(dtype="mixed_float16")
    # Squares of these are no float16 numbers.
    x = (rng.standard_normal((1, 4, 6, 8)) * 1000.0).astype("float16")
    y = np.asarray(norm(x))
    assert y.dtype == "float16"
    np.testing.assert_allclose(np.var(y.astype("float32")), 1.0, atol=1e-2)
