import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers import ASPP
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize("arguments", [{}, {"form": "deployment", "activation": "silu"}])
def test_layer(arguments):
    layer = ASPP(8, dilation_rates=(2, 3), dropout=0.0, **arguments)
    check_layer(layer, [(2, 4, 6, 5), (2, 7, 3, 5)])


def test_the_branches_are_joined_from_near_to_far(rng):
    layer = ASPP(4, dilation_rates=(2, 5))
    x = rng.standard_normal((2, 6, 8, 3)).astype("float32")
    y = layer(x)
    assert [branch.conv.dilation_rate for branch in layer.branches] == [(1, 1), (2, 2), (5, 5)]
    assert [branch.conv.kernel_size for branch in layer.branches] == [(1, 1), (3, 3), (3, 3)]
    mean = layer.pooled(x.mean((1, 2), keepdims=True))
    maps = [branch(x) for branch in layer.branches] + [np.broadcast_to(mean, (2, 6, 8, 4))]
    np.testing.assert_allclose(y, layer.project(np.concatenate(maps, -1)), atol=1e-6)


def test_unknown_sizes_give_what_known_ones_give(rng):
    layer = ASPP(4)
    images = [rng.standard_normal((1, *size, 3)).astype("float32") for size in ((6, 8), (1, 5))]
    expected = [layer(x) for x in images]
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def run(x):
        traces.append(x.shape)
        return layer(x)

    for x, y in zip(images, expected, strict=True):
        np.testing.assert_allclose(run(x), y, atol=1e-6)
    assert len(traces) == 1


def test_dropout_falls_on_single_values(rng):
    layer = ASPP(16, dilation_rates=(1,), dropout=0.5)
    x = rng.standard_normal((1, 8, 8, 3)).astype("float32")
    layer(x)
    layer.project.norm.beta.assign(np.full(16, 9.0))
    dropped = np.asarray(layer(x, training=True)) == 0
    assert 0.4 < dropped.mean() < 0.6
    assert not dropped.all((1, 2)).any()


def test_there_is_no_int8_form_yet():
    with pytest.raises(ValueError, match="no int8 grids yet. Received: form='quantized'"):
        ASPP(form="quantized")
