"""Fake quantization: values rounded to the int8 grid of the converted file, in float arithmetic."""

import keras
from keras import ops

from mobilevit_keras.layers.forms import QUANTIZED

MOMENTUM = 0.99
"""Weight of the old range at each training step."""

UNIT_RANGE = (0.0, 255.0 / 256.0)
"""The grid on which TFLite's int8 sigmoid and softmax always answer."""

FLOAT_AGAIN = 1.0 + 2.0**-20
"""A factor that changes nothing that shows, and keeps what follows in float.

The converter makes an operation int8 where its inputs are quantized and a grid for its output is
known, as softmax's always is. It does not look past a product with a constant.
"""

ACTIVATIONS = ("silu", "relu", "relu6", "hard_swish")
"""Activations whose int8 form every CPU delegate takes."""

_GATE_RANGES = {"silu": UNIT_RANGE, "hard_swish": (0.0, 6.0)}
_SMALLEST_RANGE = 1e-6


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
        self.observed: list[tuple[float, float]] = []

    def build(self, input_shape) -> None:
        if self.fixed_range is None:
            common = {"shape": (), "initializer": "zeros", "trainable": False}
            self.low = self.add_weight(name="low", dtype="float32", **common)
            self.high = self.add_weight(name="high", dtype="float32", **common)
            # An integer, which averages of weights leave alone.
            self.frozen = self.add_weight(name="frozen", dtype="int32", **common)

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
    others = tuple(index for index in range(4) if index != axis)
    bound = ops.stop_gradient(ops.max(ops.abs(kernel), axis=others))
    bound = ops.maximum(bound, _SMALLEST_RANGE)
    return keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -bound, bound, num_bits=8, narrow_range=True, axis=axis
    )


@keras.saving.register_keras_serializable("mobilevit_keras")
class QuantizedConv2D(keras.layers.Conv2D):
    """Convolution with a fake-quantized kernel, one scale for each output channel."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, fake_quantize_kernel(kernel, axis=3))


@keras.saving.register_keras_serializable("mobilevit_keras")
class QuantizedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Depthwise convolution with a fake-quantized kernel, one scale for each channel."""

    def call(self, inputs):
        outputs = ops.depthwise_conv(
            inputs,
            fake_quantize_kernel(self.kernel, axis=2),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return ops.add(outputs, self.bias) if self.use_bias else outputs


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


@keras.saving.register_keras_serializable("mobilevit_keras")
class QuantizedActivation(keras.layers.Layer):
    """An activation between the grids that the converted file has around it.

    SiLU is sigmoid and product in the file, each with a grid. ReLU is part of the convolution, so
    that only its output has one.

    Args:
        activation: One of `ACTIVATIONS`, or None.

    Input shape: any
    Output shape: the same, float32.

    Raises:
        ValueError: If the activation is another.
    """

    def __init__(self, activation: str | None, **kwargs) -> None:
        super().__init__(**kwargs)
        if activation is not None and activation not in ACTIVATIONS:
            raise ValueError(
                "The activation of a quantized model must be one of "
                f"{ACTIVATIONS}. Received: {activation!r}."
            )
        self.activation = activation

    def build(self, input_shape) -> None:
        if self.activation in _GATE_RANGES:
            self.inner = quantizer(QUANTIZED, "inner")
            gate_range = _GATE_RANGES[self.activation]
            self.gate = quantizer(QUANTIZED, "gate", fixed_range=gate_range)
        if self.activation == "hard_swish":
            self.sixth = quantizer(QUANTIZED, "sixth", fixed_range=(0.0, 1.0))
        self.outer = quantizer(QUANTIZED, "outer")

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
        return self.outer(x)

    def compute_output_shape(self, input_shape) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict:
        return {**super().get_config(), "activation": self.activation}


def activation_layer(form: str, activation: str | None):
    """The activation of a form, something to call."""
    if form == QUANTIZED:
        return QuantizedActivation(activation, name="activation", dtype="float32")
    return keras.activations.get(activation)


def quantizers_of(model: keras.layers.Layer) -> list[ActivationQuantizer]:
    """Every quantizer of a model whose range is measured, in the order of the layers."""
    found = [layer for layer in model._flatten_layers() if isinstance(layer, ActivationQuantizer)]
    return [layer for layer in found if layer.fixed_range is None]
