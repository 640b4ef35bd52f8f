"""Fake quantization: values rounded to the int8 grid of the converted file, in float arithmetic.

In training by Keras's operation, which lets gradients through, and so in the graph that is
converted, which knows that operation. In inference by the arithmetic of the file itself: codes and
their sums are whole numbers, which float32 holds exactly up to 2^24, and are multiplied by one
factor in the order in which XNNPACK does. Sums of fractions would land on the other side of a
rounding once in some 300,000 values, which is more than once in each image.
"""

import contextlib
import math
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops

from mobilevit_keras.layers.forms import QUANTIZED

MOMENTUM = 0.99
"""Weight of the old range at each training step."""

UNIT_RANGE = (0.0, 255.0 / 256.0)
"""The grid on which TFLite's int8 sigmoid and softmax always answer."""

IMAGE_RANGE = (0.0, 255.0 * 32_894 / 2**23)
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
_PROBE_SIDE = 64
_STEP_BITS = 16

_INFERENCE = "inference"
_OBSERVED = "observed"
_PROBED = "probed"
_CONVERTED = "converted"


class _Quantized(keras.layers.Layer):
    """What every fake-quantized layer has: a mode, which says what a call of it is for.

    In `_INFERENCE` it computes as the file does, in `_CONVERTED` it makes the graph that becomes
    the file. In `_OBSERVED` values pass unrounded and are looked at, in `_PROBED` grids answer
    their steps; see `observed` and `measure_input_steps`.
    """

    mode = _INFERENCE

    def computes_in_codes(self, training) -> bool:
        """Whether a call computes as the file does."""
        return not training and self.mode == _INFERENCE


@contextlib.contextmanager
def _mode(model: keras.layers.Layer, mode: str) -> Iterator[list[_Quantized]]:
    """Has the fake-quantized layers of a model in a mode for as long as the block; yields them."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, _Quantized)]
    for layer in layers:
        layer.mode = mode
    try:
        yield layers
    finally:
        for layer in layers:
            layer.mode = _INFERENCE


@keras.saving.register_keras_serializable("mobilevit_keras")
class ActivationQuantizer(_Quantized):
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
        """Sets the range; zero is always in it, as int8 needs an exact zero.

        The step is rounded to 16 bits: float32 then holds every value of the grid exactly.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        if self.is_symmetric:
            step = _round_step(max(-low, high) / 127.0)
            low, high = -127.0 * step, 127.0 * step
        elif high > low:
            step = _round_step((high - low) / 255.0)
            zero = min(round(-low / step), 255)
            low, high = -zero * step, (255 - zero) * step
        self.low.assign(low)
        self.high.assign(high)

    def call(self, inputs, training=None):
        if self.mode == _PROBED:
            return ops.zeros_like(inputs) + self.step
        if self.mode == _OBSERVED and self.fixed_range is None:
            values = ops.convert_to_numpy(inputs)
            self.observed.append((float(values.min()), float(values.max())))
            return inputs
        low, high = self.fixed_range or (self.low.value, self.high.value)
        if self.computes_in_codes(training):
            # A symmetric grid's range ends at -127, but the file's int8 goes on to -128.
            zero = 128.0 if self.is_symmetric else ops.floor(0.5 - low / self.step)
            codes = ops.round(inputs * (1.0 / self.step))
            return ops.clip(codes, -zero, 255.0 - zero) * self.step
        if training and self.fixed_range is None:
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


def _round_step(step: float) -> float:
    mantissa, exponent = math.frexp(step)
    return math.ldexp(round(mantissa * 2**_STEP_BITS), exponent - _STEP_BITS)


def fake_quantize(values, low, high, is_symmetric: bool):
    """Rounds values to the grid of a range: 256 codes, or 255 around zero where symmetric."""
    return keras.quantizers.fake_quant_with_min_max_vars(
        values, low, high, num_bits=8, narrow_range=is_symmetric
    )


def fake_quantize_kernel(kernel, bound, axis: int):
    """Rounds a kernel to 255 values around zero, each output channel with a scale of its own.

    Args:
        kernel: `(k, k, C, filters)`, or depthwise `(k, k, C, 1)`.
        bound: `(filters,)`, the largest value that each channel's codes reach.
        axis: The axis of the output channels.
    """
    return keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -bound, bound, num_bits=8, narrow_range=True, axis=axis
    )


def _kernel_bound(kernel, axis: int):
    others = tuple(index for index in range(4) if index != axis)
    bound = ops.stop_gradient(ops.max(ops.abs(kernel), axis=others))
    return ops.maximum(bound, _SMALLEST_RANGE)


class _BeforeGrid(_Quantized):
    """A quantized layer that another one's grid may follow, to which it then rounds itself."""

    _output_step: Callable | None = None

    def answer_on(self, grid: ActivationQuantizer | None) -> None:
        """Tells the layer which grid follows."""
        # The grid itself, as an attribute, would become a part of this layer.
        self._output_step = None if grid is None else lambda: grid.step

    def _answer(self, codes, step):
        """Values of `codes` times `step`, on the grid that follows as the file has them."""
        if self._output_step is None:
            return codes * step
        output_step = self._output_step()
        return ops.round(codes * (step / output_step)) * output_step


class _QuantizedConvolution(_BeforeGrid):
    """What both quantized convolutions are: kernel and bias rounded, as the file holds them."""

    _convolve: Callable
    _channel_axis: int

    def build(self, input_shape) -> None:
        super().build(input_shape)
        # Of the grid that the input is on; 0 until it is measured.
        self.input_step = self.add_weight(
            name="input_step", shape=(), initializer="zeros", dtype="float32", trainable=False
        )

    def call(self, inputs, training=None):
        if self.mode == _PROBED:
            # The largest: padding adds zeros.
            self.input_step.assign(ops.max(inputs))
        # Half precision holds no whole numbers of that size.
        if self.computes_in_codes(training) and self.compute_dtype == "float32":
            return self._convolve_codes(inputs)
        bound = _kernel_bound(self.kernel, self._channel_axis)
        kernel, bias = self.kernel, self.bias
        if not training:
            # Far too little for weights to learn from. The kernel's: the operation after it adds
            # 127 before it rounds, which moves what lies next to the middle of two codes.
            kernel_step = bound / 127.0
            kernel = self._kernel_codes(kernel_step) * self._along_kernel(kernel_step)
            if self.use_bias:
                step = self._known_input_step() * kernel_step
                bias = self._bias_codes(step) * step
        kernel = fake_quantize_kernel(kernel, bound, self._channel_axis)
        outputs = self._convolve_with(inputs, kernel)
        return ops.add(outputs, bias) if self.use_bias else outputs

    def _along_kernel(self, values):
        """One value for each output channel, in a shape that goes with the kernel's."""
        return ops.reshape(values, [-1 if i == self._channel_axis else 1 for i in range(4)])

    def _kernel_codes(self, step):
        return ops.round(self.kernel / self._along_kernel(step))

    def _convolve_with(self, inputs, kernel):
        return type(self)._convolve(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def _known_input_step(self):
        """The input's step; 1 where it is not known, codes are fractions then."""
        step = self.input_step.value
        return ops.where(step > 0.0, step, 1.0)

    def _bias_codes(self, step):
        """What int32 holds of the bias: multiples of the input's step times the kernel's."""
        codes = self.bias / step
        return ops.where(self.input_step.value > 0.0, ops.round(codes), codes)

    def _convolve_codes(self, inputs):
        kernel_step = _kernel_bound(self.kernel, self._channel_axis) / 127.0
        input_step = self._known_input_step()
        step = input_step * kernel_step
        sums = self._convolve_with(inputs / input_step, self._kernel_codes(kernel_step))
        if self.use_bias:
            sums = sums + self._bias_codes(step)
        return self._answer(sums, step)

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
class QuantizedActivation(_BeforeGrid):
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
        self.answer_on(self.outer)

    @property
    def first_grid(self) -> ActivationQuantizer | None:
        """The grid that meets the input, None where there is none in here."""
        return self.inner if self.activation in _GATE_RANGES else self.outer

    def call(self, inputs, training=None):
        x = inputs
        if self.activation == "silu":
            x = self.inner(x)
            x = self._product(x, self.gate(ops.sigmoid(x)), self.gate, training)
        elif self.activation == "hard_swish":
            x = self.inner(x)
            # The sixth, too, on a grid of its own: the file's products are then int8 throughout.
            gate = self.sixth(self.gate(ops.relu6(x + 3.0)) * (1.0 / 6.0))
            x = self._product(x, gate, self.sixth, training)
        elif self.activation is not None:
            x = keras.activations.get(self.activation)(x)
        return quantize(self.outer, x)

    def _product(self, x, gate, gate_grid: ActivationQuantizer, training):
        if not self.computes_in_codes(training):
            return x * gate
        codes = (x / self.inner.step) * (gate / gate_grid.step)
        return self._answer(codes, self.inner.step * gate_grid.step)

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


@contextlib.contextmanager
def observed(model: keras.Model) -> Iterator[list[ActivationQuantizer]]:
    """Has the model's measured grids note the values that pass; yields these grids."""
    quantizers = quantizers_of(model)
    for quantizer in quantizers:
        quantizer.observed.clear()
    with _mode(model, _OBSERVED):
        yield quantizers


def converted(model: keras.Model) -> contextlib.AbstractContextManager:
    """Has the model's calls make the graph that the converter takes."""
    return _mode(model, _CONVERTED)


def measure_input_steps(model: keras.Model) -> None:
    """Tells every convolution of a model with ranges the step of the grid that its input is on.

    Each grid is made to answer its own step everywhere, which whatever lies between it and the next
    convolution leaves alone: the model's structure need not be known.
    """
    shape = [side or _PROBE_SIDE for side in model.input_shape[1:]]
    with _mode(model, _PROBED):
        model(np.zeros((1, *shape), np.float32), training=False)
