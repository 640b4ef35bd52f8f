import numpy as np
import pytest

from mobilevit_keras.layers import SSDLiteHead
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize(
    "arguments", [{}, {"filters": 8}, {"filters": 5}, {"filters": 8, "form": "deployment"}]
)
def test_layer(arguments):
    check_layer(SSDLiteHead(3, 4, **arguments), [(2, 4, 6, 5), (2, 1, 1, 5)])


def test_rows_are_cells_and_in_a_cell_anchors(rng):
    layer = SSDLiteHead(2, 3)
    x = rng.standard_normal((1, 2, 3, 4)).astype("float32")
    boxes, logits = layer(x)
    for outputs, conv in ((boxes, layer.boxes), (logits, layer.logits)):
        # (1, 2, 3, 4) @ (4, 2 * n) -> (2 * 3, 2, n)
        expected = (x @ np.asarray(conv.kernel)[0, 0] + conv.bias.numpy()).reshape(6, 2, -1)
        np.testing.assert_allclose(
            np.reshape(outputs, expected.shape), expected, atol=1e-5, rtol=1e-5
        )


def test_numbers_of_boxes_change_places_in_each_anchor(rng):
    layer = SSDLiteHead(3, 2)
    x = rng.standard_normal((1, 2, 3, 4)).astype("float32")
    layer.build(x.shape)
    layer.boxes.bias.assign(rng.standard_normal(12))
    boxes, logits = layer(x)
    layer.reorder_boxes((2, 0, 3, 1))
    moved, same = layer(x)
    np.testing.assert_allclose(moved, np.asarray(boxes)[..., [2, 0, 3, 1]], atol=1e-6)
    np.testing.assert_array_equal(same, logits)


def test_a_map_is_projected_only_where_its_channels_are_others():
    same, other, plain = (SSDLiteHead(1, 2, filters) for filters in (5, 8, None))
    for layer in (same, other, plain):
        layer.build((None, 4, 4, 5))
    assert same.project is None and same.depthwise is not None
    assert other.project.filters == 8
    assert plain.project is None and plain.depthwise is None
