import numpy as np
import pytest

from mobilevit_keras.layers import InvertedResidual
from mobilevit_keras.layers.inverted_residual import make_divisible
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize(
    "arguments",
    [
        {"filters": 8, "expand_ratio": 2},
        {"filters": 12, "expand_ratio": 4, "strides": 2},
        {"filters": 8, "expand_ratio": 2, "dilation_rate": 2, "form": "deployment"},
    ],
)
def test_layer(arguments):
    check_layer(InvertedResidual(**arguments), [(2, 8, 12, 8), (2, 7, 9, 8)])


# Multiples of 8 nearest to the value, one up where that would lose more than a tenth.
@pytest.mark.parametrize("value, expected", [(32, 32), (36, 40), (35, 32), (12, 16), (3, 8)])
def test_make_divisible(value, expected):
    assert make_divisible(value) == expected


@pytest.mark.parametrize(
    "filters, strides, residual", [(8, 1, True), (8, 2, False), (16, 1, False)]
)
def test_the_input_is_added_only_to_an_output_of_its_shape(rng, filters, strides, residual):
    layer = InvertedResidual(filters, 2, strides=strides)
    x = rng.standard_normal((1, 6, 6, 8)).astype("float32")
    layer.build(x.shape)
    # With its last norm's scale at zero the block's own part vanishes.
    layer.project.norm.gamma.assign(np.zeros(filters))
    rows = 6 // strides
    expected = x if residual else np.zeros((1, rows, rows, filters))
    np.testing.assert_array_equal(layer(x), expected)


def test_the_projection_is_linear(rng):
    layer = InvertedResidual(16, 2)
    assert (np.array(layer(rng.standard_normal((4, 6, 6, 8)).astype("float32"))) < -0.3).any()
