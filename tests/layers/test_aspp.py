import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers import ASPP
from mobilevit_keras.quantization import quantize_aware
from tests.layers.layer_check import check_layer
from tests.tiny import build_tiny_segmenter


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


@pytest.fixture(scope="module")
def twin():
    """A calibrated model: before there is a range, answers are not numbers."""
    images = np.random.default_rng(0).random((8, 64, 96, 3), "float32")
    return quantize_aware(build_tiny_segmenter(), images)


class TestQuantized:
    @pytest.fixture
    def inputs(self, rng, twin):
        """A map on the grid that the backbone ends in."""
        images = rng.random((2, 64, 96, 3), "float32")
        return twin.backbone(images, training=False)

    def test_branches_answer_on_the_grid_that_joins_them(self, twin, inputs):
        aspp = twin.head.aspp
        grid = aspp.quantize_joined
        for layer in aspp.branches:
            answers = np.asarray(layer(inputs)) / float(grid.step)
            np.testing.assert_allclose(answers, np.round(answers), atol=1e-4)
            assert np.abs(answers).max() > 1
        assert float(grid.low) == 0.0, "after ReLU"

    def test_the_mean_has_a_grid_of_its_own(self, twin, inputs):
        """That of the map would be too coarse: what the mean differs by is a small part of it."""
        aspp = twin.head.aspp
        mean = np.asarray(inputs).mean((1, 2))
        # A mean lies within the range of its map, of which it needs a part.
        map_grid = twin.backbone.layers[-1].fuse.act.outer
        assert float(aspp.quantize_mean.step) < 0.6 * float(map_grid.step)
        assert float(aspp.quantize_mean.low) <= mean.min() + 1e-3
        assert float(aspp.pooled.conv.input_step) == pytest.approx(float(aspp.quantize_mean.step))

    def test_every_convolution_knows_the_step_of_its_input(self, twin):
        aspp = twin.head.aspp
        (map_step,) = {float(layer.conv.input_step) for layer in aspp.branches}
        assert map_step == float(twin.backbone.layers[-1].fuse.act.outer.step)
        assert float(aspp.project.conv.input_step) == float(aspp.quantize_joined.step)
        assert float(twin.head.classifier.input_step) == float(aspp.project.act.outer.step)

    def test_unknown_sizes_give_what_known_ones_give(self, twin, inputs):
        run = tf.function(
            lambda x: twin.head.aspp(x), input_signature=[tf.TensorSpec((None, None, None, 16))]
        )
        np.testing.assert_allclose(run(inputs), twin.head.aspp(inputs), atol=1e-5)
