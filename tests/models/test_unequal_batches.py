"""Batches of one's own of which only one side changes, trained on in one graph."""

import keras
import numpy as np
import pytest

from tests.tiny import (
    SEPARABLE,
    build_tiny,
    build_tiny_detector,
    build_tiny_segmenter,
    object_images,
)


def _labels(model, rng, height, width):
    return rng.integers(0, 3, 2)


def _masks(model, rng, height, width):
    return rng.integers(0, 3, (2, height, width))


def _matched(model, rng, height, width):
    return model.targets(object_images(2, height, width)[1], height, width)


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, arguments, targets",
    [
        # Its last stage is dilated, as a segmenter's is.
        (build_tiny, {"output_stride": 16, **SEPARABLE}, _labels),
        (build_tiny, {}, _labels),
        (build_tiny_segmenter, {}, _masks),
        (build_tiny_segmenter, SEPARABLE, _masks),
        (build_tiny_detector, {}, _matched),
        (build_tiny_detector, SEPARABLE, _matched),
    ],
)
def test_the_loss_is_that_of_no_graph(rng, build, arguments, targets):
    model = build(**arguments)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    step, traces = model.train_step, []
    model.train_step = lambda data: traces.append(data) or step(data)
    model.compile(keras.optimizers.SGD(0.0), metrics=[])
    losses, expected, graphs = [], [], []
    for height in (64, 96, 80, 128):
        x = rng.random((2, height, 64, 3), "float32")
        y = targets(model, rng, height, 64)
        model.reset_metrics()
        losses.append(model.train_on_batch(x, y))
        expected.append(float(model.loss(y, model(x, training=True))))
        graphs.append(len(traces))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    # What the second height is trained in takes every other.
    assert graphs[1] == graphs[-1]
