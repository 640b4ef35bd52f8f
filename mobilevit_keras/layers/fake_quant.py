"""Fake quantization: values rounded to the int8 grid of the converted file, in float arithmetic."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from mobilevit_keras.layers.forms import QUANTIZED

MOMENTUM = 0.99
"""Weight of the old range at each training step."""

UNIT_RANGE = (0.0, 255.0 / 256.0)
"""The grid on which TFLite's int8 sigmoid and softmax always answer."""

IMAGE_RANGE = (0.0, 1.0 / (1.0 + 2.0**-14))
"""The grid of the images: their bytes over 255, but for a step that is smaller by nothing that
shows. Images resized by a whole factor have many values just between two bytes, which no two
runtimes round to the same side; by this step they lie clearly nearer to the upper one.
"""

FLOAT_AGAIN = 1.0 + 2.0**-20
"""A factor that changes nothing that shows, and keeps what follows in float.

The converter makes an operation int8 where its inputs are quantized and a grid for its output is
known, as softmax's always is. It does not look past a product with a constant.
"""

ACTIVATIONS = ("silu", "relu", "relu6", "hard_swish")
"""Activations whose int8 form every CPU delegate takes."""

_GATE_RANGES = {"silu": UNIT_RANGE, "hard_swish": (0.0, 6.0)}
_SMALLEST_RANGE = 1e-6
_SMALLEST_STEP = 1e-30
_PROBE_SIDE = 64


@keras.saving.register_keras_serializable("mobilevit_keras")
class ActivationQuantizer(keras.layers.Layer):
    """Rounds activations to 256 values between the ends of a range.

    The range is the moving average of each training batch's smallest and largest value until it is
    frozen, or a constant. Before there is a range, answers are not numbers.

    Args:
        fixed_range: The range, where it is known; no weights are made.
        is_symmetric: Whether zero is the middle, at code 0, as int8 matrix products want their
            second operand.
        momentum: Weight of the old range at each step.

    Input shape: any
    Output shape: the same, float32.
    """

    def __init__(
        self,
        fixed_range: tuple[float, float] | None = None,
        is_symmetric: bool = False,
        momentum: float = MOMENTUM,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.fixed_range = None if fixed_range is None else tuple(fixed_range)
        self.is_symmetric = is_symmetric
        self.momentum = momentum
        self.is_observing = False
        self.is_probed = False
        self.observed: list[tuple[float, float]] = []

    def build(self, input_shape) -> None:
        if self.fixed_range is None:
            common = {"shape": (), "initializer": "zeros", "trainable": False}
            self.low = self.add_weight(name="low", dtype="float32", **common)
            self.high = self.add_weight(name="high", dtype="float32", **common)
            # An integer, which averages of weights leave alone.
            self.frozen = self.add_weight(name="frozen", dtype="int32", **common)

    @property
    def step(self):
        """Distance of two neighbouring values of the grid."""
        low, high = self.fixed_range or (self.low.value, self.high.value)
        return (high - low) / (254.0 if self.is_symmetric else 255.0)

    @property
    def has_range(self) -> bool:
        """Whether there is a range to quantize to."""
        return self.fixed_range is not None or float(self.high) > float(self.low)

    def set_range(self, low: float, high: float) -> None:
        """Sets the range; zero is always in it, as int8 needs an exact zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        if self.is_symmetric:
            high = max(-low, high)
            low = -high
        self.low.assign(low)
        self.high.assign(high)

    def call(self, inputs, training=None):
        if self.is_probed:
            return ops.zeros_like(inputs) + self.step
        if self.fixed_range is not None:
            return fake_quantize(inputs, *self.fixed_range, self.is_symmetric)
        if self.is_observing:
            values = ops.convert_to_numpy(inputs)
            self.observed.append((float(values.min()), float(values.max())))
            return inputs
        low, high = self.low.value, self.high.value
        if training:
            low, high = self._moved(inputs)
            self.low.assign(low)
            self.high.assign(high)
            # Of a batch of zeros alone; the operation itself would divide by zero.
            high = ops.maximum(high, low + _SMALLEST_RANGE)
        return fake_quantize(inputs, low, high, self.is_symmetric)

    def _moved(self, inputs):
        """The range after a batch: the first batch's own, then a moving average, then constant."""
        values = ops.stop_gradient(inputs)
        low = ops.minimum(ops.min(values), 0.0)
        high = ops.maximum(ops.max(values), 0.0)
        if self.is_symmetric:
            high = ops.maximum(-low, high)
            low = -high
        old_low, old_high = self.low.value, self.high.value
        is_first = old_high <= old_low
        rate = ops.where(is_first, 1.0, 1.0 - self.momentum)
        rate = rate * (1.0 - ops.cast(self.frozen.value, "float32"))
        return old_low + rate * (low - old_low), old_high + rate * (high - old_high)

    def compute_output_shape(self, input_shape) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "fixed_range": self.fixed_range,
            "is_symmetric": self.is_symmetric,
            "momentum": self.momentum,
        }


def fake_quantize(values, low, high, is_symmetric: bool):
    """Rounds values to the grid of a range: 256 codes, or 255 around zero where symmetric."""
    return keras.quantizers.fake_quant_with_min_max_vars(
        values, low, high, num_bits=8, narrow_range=is_symmetric
    )


def fake_quantize_kernel(kernel, axis: int):
    """Rounds a kernel to 255 values around zero, each output channel with a scale of its own.

    Args:
        kernel: `(k, k, C, filters)`, or depthwise `(k, k, C, 1)`.
        axis: The axis of the output channels.
    """
    bound = _kernel_bound(kernel, axis)
    return keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -bound, bound, num_bits=8, narrow_range=True, axis=axis
    )


def _kernel_bound(kernel, axis: int):
    others = tuple(index for index in range(4) if index != axis)
    bound = ops.stop_gradient(ops.max(ops.abs(kernel), axis=others))
    return ops.maximum(bound, _SMALLEST_RANGE)


def round_bias(bias, kernel, axis: int, input_step):
    """Rounds a bias to what int32 holds of it: multiples of the input's step times the kernel's.

    Args:
        bias: `(filters,)`.
        kernel, axis: See `fake_quantize_kernel`.
        input_step: Step of the input's grid; 0 where it is not known, then nothing is rounded.
    """
    step = input_step * _kernel_bound(kernel, axis) / 127.0
    rounded = ops.round(bias / ops.maximum(step, _SMALLEST_STEP)) * step
    return ops.where(input_step > 0.0, rounded, bias)


class _QuantizedConvolution(keras.layers.Layer):
    """What both quantized convolutions are: kernel and bias rounded, as the file holds them."""

    _convolve: Callable
    _channel_axis: int

    def build(self, input_shape) -> None:
        super().build(input_shape)
        self.is_probed = False
        # Of the grid that the input is on; 0 until it is measured.
        self.input_step = self.add_weight(
            name="input_step", shape=(), initializer="zeros", dtype="float32", trainable=False
        )

    def call(self, inputs, training=None):
        if self.is_probed:
            # The largest: padding adds zeros.
            self.input_step.assign(ops.max(inputs))
        outputs = type(self)._convolve(
            inputs,
            fake_quantize_kernel(self.kernel, self._channel_axis),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        if not self.use_bias:
            return outputs
        bias = self.bias
        if not training:
            # Far too little for weights to learn from.
            bias = round_bias(bias, self.kernel, self._channel_axis, self.input_step.value)
        return ops.add(outputs, bias)

    # Keras's own for convolutions know of a kernel and a bias only.
    def save_own_variables(self, store) -> None:
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store) -> None:
        keras.layers.Layer.load_own_variables(self, store)


@keras.saving.register_keras_serializable("mobilevit_keras")
class QuantizedConv2D(_QuantizedConvolution, keras.layers.Conv2D):
    """Convolution with a fake-quantized kernel, one scale for each output channel."""

    _convolve = ops.conv
    _channel_axis = 3


@keras.saving.register_keras_serializable("mobilevit_keras")
class QuantizedDepthwiseConv2D(_QuantizedConvolution, keras.layers.DepthwiseConv2D):
    """Depthwise convolution with a fake-quantized kernel, one scale for each channel."""

    _convolve = ops.depthwise_conv
    _channel_axis = 2


def conv_layer(form: str, is_depthwise: bool = False) -> type[keras.layers.Layer]:
    """The convolution layer of a form."""
    if is_depthwise:
        return QuantizedDepthwiseConv2D if form == QUANTIZED else keras.layers.DepthwiseConv2D
    return QuantizedConv2D if form == QUANTIZED else keras.layers.Conv2D


def quantizer(form: str, name: str, **arguments) -> ActivationQuantizer | None:
    """An `ActivationQuantizer` in the form "quantized", None in any other."""
    if form != QUANTIZED:
        return None
    built = ActivationQuantizer(name=name, dtype="float32", **arguments)
    built.build(None)
    return built


def quantize(quantizer: ActivationQuantizer | None, values):
    """What `quantizer` makes of `values`; the values themselves where there is none."""
    return values if quantizer is None else quantizer(values)


def float_between_grids(values):
    """Values on one grid, kept in float until the next grid.

    XNNPACK steps from one int8 grid to another with a factor of eight bits, which misses by up to a
    quarter of a step, and not at all between grids too unlike. TFLite's change of sign is float
    alone; a product by itself would become int8.
    """
    return ops.negative(values) * -FLOAT_AGAIN


@keras.saving.register_keras_serializable("mobilevit_keras")
class QuantizedActivation(keras.layers.Layer):
    """An activation between the grids that the converted file has around it.

    SiLU is sigmoid and product in the file, each with a grid. ReLU is part of the convolution, so
    that only its output has one.

    Args:
        activation: One of `ACTIVATIONS`, or None.
        quantizes_output: Whether there is a grid after it; without, what follows must bring one.

    Input shape: any
    Output shape: the same, float32.

    Raises:
        ValueError: If the activation is another.
    """

    def __init__(self, activation: str | None, quantizes_output: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        if activation is not None and activation not in ACTIVATIONS:
            raise ValueError(
                "The activation of a quantized model must be one of "
                f"{ACTIVATIONS}. Received: {activation!r}."
            )
        self.activation = activation
        self.quantizes_output = quantizes_output

    def build(self, input_shape) -> None:
        if self.activation in _GATE_RANGES:
            self.inner = quantizer(QUANTIZED, "inner")
            gate_range = _GATE_RANGES[self.activation]
            self.gate = quantizer(QUANTIZED, "gate", fixed_range=gate_range)
        if self.activation == "hard_swish":
            self.sixth = quantizer(QUANTIZED, "sixth", fixed_range=(0.0, 1.0))
        self.outer = quantizer(QUANTIZED, "outer") if self.quantizes_output else None

    def call(self, inputs):
        x = inputs
        if self.activation == "silu":
            x = self.inner(x)
            x = x * self.gate(ops.sigmoid(x))
        elif self.activation == "hard_swish":
            x = self.inner(x)
            # The sixth, too, on a grid of its own: the file's products are then int8 throughout.
            x = x * self.sixth(self.gate(ops.relu6(x + 3.0)) * (1.0 / 6.0))
        elif self.activation is not None:
            x = keras.activations.get(self.activation)(x)
        return quantize(self.outer, x)

    def compute_output_shape(self, input_shape) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "activation": self.activation,
            "quantizes_output": self.quantizes_output,
        }


def activation_layer(form: str, activation: str | None, quantizes_output: bool = True):
    """The activation of a form, something to call."""
    if form == QUANTIZED:
        return QuantizedActivation(activation, quantizes_output, name="activation", dtype="float32")
    return keras.activations.get(activation)


def quantizers_of(model: keras.layers.Layer) -> list[ActivationQuantizer]:
    """Every quantizer of a model whose range is measured, in the order of the layers."""
    found = [layer for layer in model._flatten_layers() if isinstance(layer, ActivationQuantizer)]
    return [layer for layer in found if layer.fixed_range is None]


def measure_input_steps(model: keras.Model) -> None:
    """Tells every convolution of a model with ranges the step of the grid that its input is on.

    Each grid is made to answer its own step everywhere, which whatever lies between it and the next
    convolution leaves alone: the model's structure need not be known.
    """
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, (ActivationQuantizer, _QuantizedConvolution))
    ]
    shape = [side or _PROBE_SIDE for side in model.input_shape[1:]]
    for layer in layers:
        layer.is_probed = True
    try:
        model(np.zeros((1, *shape), np.float32), training=False)
    finally:
        for layer in layers:
            layer.is_probed = False
