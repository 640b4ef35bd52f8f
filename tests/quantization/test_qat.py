import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers.fake_quant import (
    IMAGE_RANGE,
    ActivationQuantizer,
    converted,
    quantizers_of,
)
from mobilevit_keras.layers.quantized_layers import QuantizedConv2D, fake_quantize_kernel
from mobilevit_keras.quantization import (
    calibrate,
    fold,
    freeze_ranges,
    quantize_aware,
    settle_ranges,
)
from tests.tiny import build_tiny, build_tiny_segmenter


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((8, 64, 64, 3), np.float32)


def test_activations_land_on_the_grid():
    quantizer = ActivationQuantizer()
    quantizer.build(None)
    quantizer.set_range(-1.0, 3.0)
    # 255 steps over [-1, 3]; the range is moved so that zero is a code: 63.75 -> 64 steps below.
    step = 4.0 / 255.0
    values = np.linspace(-2.0, 4.0, 1001, dtype=np.float32)
    codes = np.clip(np.floor(values / step + 64 + 0.5), 0, 255)
    np.testing.assert_allclose(quantizer(values), (codes - 64) * step, atol=step * 1.001)
    assert len(np.unique(quantizer(values))) == 256
    assert 0.0 in np.asarray(quantizer(np.zeros(1)))


def test_symmetric_range_has_zero_in_the_middle():
    quantizer = ActivationQuantizer(is_symmetric=True)
    quantizer.build(None)
    quantizer.set_range(-1.0, 2.54)
    quantizer.frozen.assign(1)
    values = np.array([-9.0, 0.0, 0.021, 9.0])
    np.testing.assert_allclose(
        quantizer(values, training=True), [-2.54, 0.0, 0.02, 2.54], rtol=1e-5
    )
    # A file's int8 has one code more below than above, and uses it.
    np.testing.assert_allclose(quantizer(values), [-2.56, 0.0, 0.02, 2.54], rtol=1e-5)


@pytest.mark.parametrize("is_symmetric", [False, True])
def test_float32_holds_every_value_of_a_grid_exactly(is_symmetric):
    quantizer = ActivationQuantizer(is_symmetric=is_symmetric)
    quantizer.build(None)
    quantizer.set_range(-0.3, 1.7)
    step = float(quantizer.step)
    codes = np.asarray(quantizer(np.linspace(-2, 2, 5001, dtype=np.float32)), np.float64) / step
    np.testing.assert_array_equal(codes, np.round(codes))
    assert step == pytest.approx((2 * 1.7 / 254) if is_symmetric else 2.0 / 255, rel=2**-16)
    assert float(np.float32(step)) == step


def test_a_convolution_rounds_as_whole_numbers_do():
    """Against int64 sums, one factor in float32 and rounding to even: XNNPACK's arithmetic."""
    rng = np.random.default_rng(0)
    grid = ActivationQuantizer()
    grid.build(None)
    grid.set_range(-1.0, 1.3)
    layer = QuantizedConv2D(32, 3, padding="valid")
    layer.build((None, 9, 9, 64))
    layer.kernel.assign(rng.normal(size=(3, 3, 64, 32)))
    layer.bias.assign(rng.normal(size=32))
    layer.answer_on(grid)
    input_step = np.float32(3 / 2**9)
    layer.input_step.assign(input_step)
    inputs = rng.integers(-128, 128, (2, 9, 9, 64))
    answers = grid(layer((inputs * input_step).astype(np.float32)))

    kernel = np.asarray(layer.kernel)
    kernel_step = np.abs(kernel).max((0, 1, 2)) / np.float32(127)
    kernel = np.round(kernel / kernel_step).astype(np.int64)
    sums = np.round(np.asarray(layer.bias) / (input_step * kernel_step)).astype(np.int64)
    patches = np.lib.stride_tricks.sliding_window_view(inputs, (3, 3), axis=(1, 2))
    sums = sums + np.einsum("bhwcij,ijcf->bhwf", patches, kernel)
    step = np.float32(grid.step)
    codes = np.rint(sums.astype(np.float32) * (input_step * kernel_step / step))
    zero = np.rint(1.0 / step)
    np.testing.assert_array_equal(answers, np.clip(codes, -zero, 255 - zero) * step)


@pytest.mark.parametrize("code", [34.499996, 0.50000405, -51.500004])
def test_file_and_model_round_kernels_alike(code):
    """Next to the middle of two codes, where Keras's operation rounds to the other side."""
    layer = QuantizedConv2D(1, 1, use_bias=False)
    layer.build((None, 1, 1, 2))
    layer.kernel.assign(np.array([code, 127.0], np.float32).reshape(1, 1, 2, 1))
    image = np.array([1.0, 0.0], np.float32).reshape(1, 1, 1, 2)
    with converted(layer):
        answer = float(layer(image)[0, 0, 0, 0])
    assert answer == pytest.approx(round(code)) == float(layer(image)[0, 0, 0, 0])


@pytest.mark.parametrize("shape, axis", [((3, 3, 4, 6), 3), ((3, 3, 5, 1), 2)])
def test_kernels_have_a_scale_for_each_channel(shape, axis):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    kernel *= np.moveaxis(np.arange(1, shape[axis] + 1).reshape(-1, 1, 1, 1), 0, axis)
    others = tuple(i for i in range(4) if i != axis)
    bound = np.abs(kernel).max(axis=others)
    scale = np.abs(kernel).max(axis=others, keepdims=True) / 127
    expected = np.round(kernel / scale) * scale
    np.testing.assert_allclose(fake_quantize_kernel(kernel, bound, axis), expected, atol=1e-5)


def test_ranges_follow_training_batches_until_they_are_frozen():
    quantizer = ActivationQuantizer(momentum=0.5)
    quantizer.build(None)
    for batch, expected in (([-1.0, 2.0], (-1, 2)), ([1.0, 6.0], (-0.5, 4.0))):
        quantizer(np.array(batch), training=True)
        assert (float(quantizer.low), float(quantizer.high)) == pytest.approx(expected)
    quantizer(np.array([-100.0]), training=False)
    quantizer.frozen.assign(1)
    quantizer(np.array([-100.0]), training=True)
    assert (float(quantizer.low), float(quantizer.high)) == pytest.approx((-0.5, 4.0))


def test_biases_are_whole_numbers_of_the_accumulators_step(images):
    """What int32 holds of a bias: multiples of the input's step times the kernel's."""
    model = build_tiny(num_layers=(1, 1, 1))
    twin = quantize_aware(model, images)
    convolution = twin.backbone.get_layer("stem").conv
    assert float(convolution.input_step) == pytest.approx(IMAGE_RANGE[1] / 255)
    steps = [
        float(layer.input_step)
        for layer in twin._flatten_layers()
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
    ]
    assert min(steps) > 0
    kernel, bias = np.asarray(convolution.kernel), np.linspace(-1, 1, 8, dtype=np.float32)
    convolution.bias.assign(bias[: kernel.shape[-1]])
    convolution.answer_on(None)
    answer = np.asarray(convolution(np.zeros((1, 5, 5, 3), np.float32)))[0, 0, 0]
    step = IMAGE_RANGE[1] / 255 * np.abs(kernel).max((0, 1, 2)) / 127
    wanted = np.round(bias[: kernel.shape[-1]] / step) * step
    np.testing.assert_allclose(answer, wanted, rtol=1e-5)


@pytest.mark.parametrize("activation", ["silu", "hard_swish", "relu"])
def test_quantized_answers_lie_near_the_float_ones(images, activation):
    model = build_tiny(activation=activation)
    twin = quantize_aware(model, images)
    difference = np.abs(np.asarray(model(images)) - np.asarray(twin(images)))
    scale = np.abs(np.asarray(model(images))).max()
    assert 0 < difference.max() < 0.1 * scale
    settle_ranges(twin)


@pytest.mark.slow
def test_it_trains_and_saves(images, tmp_path):
    twin = quantize_aware(build_tiny(num_layers=(1, 1, 1), dropout=0.0), images)
    twin.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    labels = np.arange(8) % 3
    weights = [weight.numpy() for weight in twin.trainable_weights]
    before = [float(quantizer.high) for quantizer in quantizers_of(twin)]
    history = twin.fit(images, labels, epochs=2, batch_size=8, verbose=0).history["loss"]
    assert np.all(np.isfinite(history))
    for weight, old in zip(twin.trainable_weights, weights, strict=True):
        # One token attends to itself alone, whatever query and key say; and what a bias of the key
        # adds to all of a query's scores alike, softmax takes away.
        if re.search("stage5_1/transformer_0/(query|key)|key/bias", weight.path):
            continue
        assert np.any(weight.numpy() != old), weight.path
    assert before != [float(quantizer.high) for quantizer in quantizers_of(twin)]
    freeze_ranges(twin)
    twin.save(tmp_path / "twin.keras")
    loaded = keras.models.load_model(tmp_path / "twin.keras")
    np.testing.assert_array_equal(twin(images), loaded(images))
    assert all(int(quantizer.frozen) == 1 for quantizer in quantizers_of(loaded))


def test_every_multiplication_by_weights_is_quantized():
    model = build_tiny(num_layers=(1, 1, 1))
    twin = quantize_aware(model)
    kinds = {
        type(layer).__name__
        for layer in twin._flatten_layers()
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
    }
    assert kinds == {"QuantizedConv2D", "QuantizedDepthwiseConv2D"}
    assert {w.path for w in fold(model).weights} == {
        w.path
        for w in twin.weights
        if w.path.rsplit("/", 1)[1] not in ("low", "high", "frozen", "input_step")
    }


def test_refusals(images):
    model = build_tiny()
    twin = quantize_aware(model)
    with pytest.raises(ValueError, match="must have been measured.*none in stage"):
        settle_ranges(twin)
    with pytest.raises(ValueError, match="Calibration needs images. Received: none"):
        calibrate(twin, np.zeros((0, 64, 64, 3), np.float32))
    with pytest.raises(ValueError, match="more than one colour each. Received: 2 images"):
        calibrate(twin, np.full((2, 64, 64, 3), 0.5, np.float32))
    with pytest.raises(ValueError, match="form must be one of"):
        quantize_aware(twin)
    with pytest.raises(ValueError, match="activation of a quantized model must be one of"):
        quantize_aware(build_tiny(activation="gelu"))


def test_a_model_without_fusion_has_a_range_everywhere(images):
    """A grid where nothing is joined would meet no values, and no range could settle."""
    twin = quantize_aware(build_tiny(use_fusion=False), images)
    settle_ranges(twin)
    freeze_ranges(twin)
    assert np.isfinite(np.asarray(twin(images))).all()


def test_unmeasured_ranges_are_not_frozen(images):
    twin = quantize_aware(build_tiny())
    with pytest.raises(ValueError, match="must have been measured"):
        freeze_ranges(twin)
    assert not any(int(quantizer.frozen) for quantizer in quantizers_of(twin))
    calibrate(twin, images)
    freeze_ranges(twin)
    assert all(int(quantizer.frozen) for quantizer in quantizers_of(twin))


class TestSegmenter:
    @pytest.mark.parametrize("activation", ["silu", "relu"])
    def test_quantized_answers_lie_near_the_float_ones(self, images, activation):
        model = build_tiny_segmenter(activation=activation)
        twin = quantize_aware(model, images)
        expected, answers = np.asarray(model(images)), np.asarray(twin(images))
        assert 0 < np.abs(answers - expected).max() < 0.15 * np.abs(expected).max()
        assert answers.dtype == np.float32
        # Logits are whole numbers of their grid's step, and float.
        codes = answers / float(twin.head.quantize_logits.step)
        np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)

    def test_it_is_calibrated_frozen_settled_and_saved(self, images, tmp_path):
        twin = quantize_aware(build_tiny_segmenter())
        with pytest.raises(ValueError, match="must have been measured"):
            freeze_ranges(twin)
        assert calibrate(twin, images) == 8
        freeze_ranges(twin)
        settle_ranges(twin)
        twin.save(tmp_path / "twin.keras")
        loaded = keras.models.load_model(tmp_path / "twin.keras")
        np.testing.assert_array_equal(twin(images), loaded(images))
        assert all(int(quantizer.frozen) for quantizer in quantizers_of(loaded))

    @pytest.mark.slow
    def test_it_trains_on_batches_of_several_sizes(self, images):
        twin = quantize_aware(build_tiny_segmenter(num_layers=(1, 1, 1), dropout=0.0), images)
        before = [float(quantizer.high) for quantizer in quantizers_of(twin)]
        weights = [weight.numpy() for weight in twin.trainable_weights]
        masks = np.random.default_rng(0).integers(0, 3, (8, 64, 64)).astype("uint8")
        batches = [(images[:, :height], masks[:, :height]) for height in (64, 48)]
        dataset = tf.data.Dataset.from_generator(
            lambda: batches,
            output_signature=(
                tf.TensorSpec((None, None, None, 3)),
                tf.TensorSpec((None, None, None), "uint8"),
            ),
        )
        twin.compile(keras.optimizers.Adam(1e-2))
        history = twin.fit(dataset, epochs=1, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        for weight, old in zip(twin.trainable_weights, weights, strict=True):
            if "key/bias" not in weight.path:
                assert np.any(weight.numpy() != old), weight.path
        assert before != [float(quantizer.high) for quantizer in quantizers_of(twin)]

    def test_every_multiplication_by_weights_is_quantized(self):
        model = build_tiny_segmenter()
        twin = quantize_aware(model)
        convolutions = [
            layer
            for layer in twin._flatten_layers()
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
        ]
        assert {type(layer).__name__ for layer in convolutions} == {
            "QuantizedConv2D",
            "QuantizedDepthwiseConv2D",
        }
        assert {w.path for w in fold(model).weights} == {
            w.path
            for w in twin.weights
            if w.path.rsplit("/", 1)[1] not in ("low", "high", "frozen", "input_step")
        }
