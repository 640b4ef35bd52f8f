"""The checks that every layer must pass."""

import keras
import numpy as np


def check_layer(layer: keras.layers.Layer, shapes: list[tuple[int, ...]], **call_arguments) -> None:
    """Config round trip, symbolic shape = eager shape, gradients, mixed precision, two sizes.

    Args:
        layer: A layer that has not been built.
        shapes: Input shapes of one batch and channel count; two or more sizes.
        **call_arguments: Further arguments of the layer's call.
    """
    assert len(shapes) >= 2
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape).astype("float32") for shape in shapes]

    outputs = [_several(layer(x, **call_arguments)) for x in inputs]
    for x, ys in zip(inputs, outputs, strict=True):
        shapes = layer.compute_output_shape(x.shape)
        shapes = shapes if isinstance(shapes[0], tuple) else (shapes,)
        for shape, y in zip(shapes, ys, strict=True):
            assert tuple(shape) == tuple(y.shape)
            assert np.isfinite(keras.ops.convert_to_numpy(y)).all()

    weights = layer.get_weights()
    config = layer.get_config()
    twin = type(layer).from_config(config)
    assert twin.get_config() == config
    twin(inputs[0], **call_arguments)
    twin.set_weights(weights)
    for y, expected in zip(_several(twin(inputs[0], **call_arguments)), outputs[0], strict=True):
        np.testing.assert_array_equal(y, expected)

    _check_gradients(layer, inputs[0], call_arguments)

    half = type(layer).from_config({**config, "dtype": "mixed_float16"})
    for y in _several(half(inputs[0], **call_arguments)):
        assert keras.backend.standardize_dtype(y.dtype) in ("float16", "float32")
    assert all(weight.dtype == "float32" for weight in half.trainable_weights)
    half.set_weights(weights)
    for y, expected in zip(_several(half(inputs[0], **call_arguments)), outputs[0], strict=True):
        y = keras.ops.convert_to_numpy(y).astype("float32")
        np.testing.assert_allclose(y, expected, atol=0.05, rtol=0.05)


def _several(outputs) -> list:
    """A layer's outputs, of which most have one."""
    return keras.tree.flatten(outputs)


def _check_gradients(layer, x, call_arguments) -> None:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = _several(layer(x, training=True, **call_arguments))
        loss = sum(tf.reduce_sum(tf.square(y)) for y in outputs)
    gradients = tape.gradient(loss, layer.trainable_weights)
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient.numpy()).all(), weight.path
