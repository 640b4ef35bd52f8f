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

    outputs = [layer(x, **call_arguments) for x in inputs]
    for x, y in zip(inputs, outputs, strict=True):
        assert tuple(layer.compute_output_shape(x.shape)) == tuple(y.shape)
        assert np.isfinite(keras.ops.convert_to_numpy(y)).all()

    weights = layer.get_weights()
    config = layer.get_config()
    twin = type(layer).from_config(config)
    assert twin.get_config() == config
    twin(inputs[0], **call_arguments)
    twin.set_weights(weights)
    np.testing.assert_array_equal(twin(inputs[0], **call_arguments), outputs[0])

    _check_gradients(layer, inputs[0], call_arguments)

    half = type(layer).from_config({**config, "dtype": "mixed_float16"})
    y = half(inputs[0], **call_arguments)
    assert keras.backend.standardize_dtype(y.dtype) in ("float16", "float32")
    assert all(weight.dtype == "float32" for weight in half.trainable_weights)
    half.set_weights(weights)
    y = keras.ops.convert_to_numpy(half(inputs[0], **call_arguments)).astype("float32")
    np.testing.assert_allclose(y, outputs[0], atol=0.05, rtol=0.05)


def _check_gradients(layer, x, call_arguments) -> None:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(x, training=True, **call_arguments)))
    gradients = tape.gradient(loss, layer.trainable_weights)
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient.numpy()).all(), weight.path
