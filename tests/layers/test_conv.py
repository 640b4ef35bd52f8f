import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers import ConvNormAct
from mobilevit_keras.layers.batch_norm import BatchNorm
from tests.layers.layer_check import check_layer

SIZES = [(2, 8, 12, 4), (2, 9, 7, 4)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"filters": 6, "kernel_size": 3},
        {"filters": 6, "kernel_size": 3, "strides": 2},
        {"filters": 6, "kernel_size": 1, "activation": None},
        {"filters": None, "kernel_size": 3, "strides": 2},
        {"filters": None, "kernel_size": 3, "dilation_rate": 2},
        {"filters": 6, "kernel_size": 1, "use_norm": False, "activation": "hard_swish"},
        {"filters": 6, "kernel_size": 3, "form": "deployment"},
    ],
)
def test_layer(arguments):
    check_layer(ConvNormAct(**arguments), SIZES)


def reference_convolution(x, kernel, stride, dilation):
    """PyTorch's convolution, written out: symmetric zero padding, cross-correlation."""
    size = kernel.shape[0]
    pad = (size - 1) // 2 * dilation
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    reach = dilation * (size - 1)
    rows = (padded.shape[1] - reach - 1) // stride + 1
    columns = (padded.shape[2] - reach - 1) // stride + 1
    y = np.zeros((x.shape[0], rows, columns, kernel.shape[3]))
    for i in range(size):
        for j in range(size):
            top, left = i * dilation, j * dilation
            window = padded[:, top : top + stride * rows : stride]
            window = window[:, :, left : left + stride * columns : stride]
            y += window @ kernel[i, j]
    return y


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("height, width", [(8, 8), (9, 7)])
def test_padding_is_symmetric(rng, stride, dilation, height, width):
    x = rng.standard_normal((1, height, width, 3)).astype("float32")
    layer = ConvNormAct(5, 3, strides=stride, dilation_rate=dilation, activation=None)
    y = layer(x)
    expected = reference_convolution(x, layer.conv.kernel.numpy(), stride, dilation)
    # Fresh batch norm only divides by sqrt(1 + epsilon).
    np.testing.assert_allclose(y, expected / np.sqrt(1 + 1e-5), atol=1e-5)


def test_a_convolution_without_norm_has_no_bias():
    layer = ConvNormAct(5, 1, use_norm=False)
    layer.build((None, None, None, 3))
    assert len(layer.weights) == 1


@pytest.mark.parametrize("filters, fan_out", [(64, 64 * 9), (None, 96 * 9)])
def test_initial_kernels_are_he_normal_by_fan_out(filters, fan_out):
    layer = ConvNormAct(filters, 3)
    layer.build((None, None, None, 96))
    kernel = layer.conv.kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.1)


def test_unknown_form():
    with pytest.raises(ValueError, match="`form` must be one of .* Received: form='folded'"):
        ConvNormAct(4, form="folded")


class TestBatchNorm:
    def test_one_step_moves_the_statistics_by_a_tenth(self, rng):
        x = (rng.standard_normal((4, 5, 6, 3)) * [1, 2, 3] + [0, 1, 2]).astype("float32")
        norm = BatchNorm()
        y = norm(x, training=True)
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        unbiased = x.reshape(-1, 3).var(0, ddof=1)
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
        np.testing.assert_allclose(norm.moving_mean, 0.1 * mean, atol=1e-5)
        np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * unbiased, atol=1e-4)

    def test_inference_uses_the_statistics(self, rng):
        x = rng.standard_normal((2, 3, 3, 2)).astype("float32")
        norm = BatchNorm()
        norm.build(x.shape)
        norm.set_weights([np.array(v, "float32") for v in ([2, 3], [1, -1], [0.5, 0], [4, 9])])
        expected = (x - [0.5, 0]) / np.sqrt(np.array([4, 9]) + 1e-5) * [2, 3] + [1, -1]
        np.testing.assert_allclose(norm(x, training=False), expected, atol=1e-5)

    def test_frozen_statistics_stay(self, rng):
        norm = BatchNorm()
        norm.build((None, 3, 3, 2))
        norm.trainable = False
        norm(rng.standard_normal((2, 3, 3, 2)).astype("float32"), training=True)
        np.testing.assert_array_equal(norm.moving_mean, [0, 0])

    @pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
    def test_mixed_precision_keeps_float32_statistics(self, rng, dtype):
        x = rng.standard_normal((4, 5, 6, 3)).astype("float32")
        norm = BatchNorm(dtype=dtype)
        y = norm(x, training=True)
        assert keras.backend.standardize_dtype(y.dtype) == dtype.removeprefix("mixed_")
        assert norm.moving_mean.dtype == "float32"
        np.testing.assert_allclose(norm.moving_mean, 0.1 * x.mean((0, 1, 2)), atol=1e-3)


@pytest.mark.parametrize("filters", [5, None], ids=["full", "depthwise"])
@pytest.mark.parametrize("known", [(None, 4), (4, None), (None, None)])
def test_a_graph_mistakes_no_side_for_the_other(rng, filters, known):
    """TensorFlow infers one size for both sides of a dilated convolution where one is unknown."""
    layer = ConvNormAct(filters, 3, dilation_rate=2)
    layer.build((None, None, None, 3))
    traces = []

    def joined(x):
        # A join says that both have the same sides; what is known of one is then known of the
        # other. So does the sum of both gradients.
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.concat([x, layer(x)], axis=-1)
        return y, tape.gradient(y, x, output_gradients=y)

    @tf.function(input_signature=[tf.TensorSpec((2, *known, 3))])
    def run(x):
        traces.append(x.shape)
        x = tf.nn.relu(x)
        return tf.shape(x)[1:3], *joined(x)

    for side in (6, 9):
        sides = [side if other is None else other for other in known]
        if known == (None, None):
            sides[1] = 4
        x = tf.constant(rng.random((2, *sides, 3), "float32"))
        said, *answers = run(x)
        assert said.numpy().tolist() == sides
        for answer, expected in zip(answers, joined(x), strict=True):
            np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert len(traces) == 1
