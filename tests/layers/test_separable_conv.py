import pytest

from mobilevit_keras.layers import SeparableConv
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize("arguments", [{}, {"strides": 2}, {"form": "deployment"}])
def test_layer(arguments):
    check_layer(SeparableConv(8, **arguments), [(2, 4, 6, 5), (2, 7, 1, 5)])


def test_only_the_end_is_activated():
    layer = SeparableConv(8)
    layer.build((None, None, None, 4))
    assert (layer.depthwise.activation, layer.pointwise.activation) == (None, "relu")
    assert layer.depthwise.norm is not None and layer.pointwise.norm is not None
