"""What a quantized model has between its grids: convolutions and activations, as in the file."""

from collections.abc import Callable

import keras
from keras import ops

from mobilevit_keras.layers.fake_quant import (
    PROBED,
    SMALLEST_RANGE,
    UNIT_RANGE,
    ActivationQuantizer,
    FakeQuantized,
    quantize,
    quantizer,
)
from mobilevit_keras.layers.forms import QUANTIZED

ACTIVATIONS = ("silu", "relu", "relu6", "hard_swish")
"""Activations whose int8 form every CPU delegate takes."""

_GATE_RANGES = {"silu": UNIT_RANGE, "hard_swish": (0.0, 6.0)}


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
    return ops.maximum(bound, SMALLEST_RANGE)


class _BeforeGrid(FakeQuantized):
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
        if self.mode == PROBED:
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


@keras.saving.register_keras_serializable("mobilevit_keras")
class OnGrid(FakeQuantized):
    """Rounds what was made of values on a grid back to that grid, of which it knows the step only.

    For operations that a converted file computes on the grid of their input, and whose values lie
    between the input's. Training passes the values on as they are.

    Input shape: any
    Output shape: the same, float32.
    """

    def build(self, input_shape) -> None:
        self.input_step = self.add_weight(
            name="input_step", shape=(), initializer="zeros", dtype="float32", trainable=False
        )

    def call(self, inputs, training=None):
        if self.mode == PROBED:
            self.input_step.assign(ops.max(inputs))
        if not self.computes_in_codes(training):
            return inputs
        step = ops.where(self.input_step.value > 0.0, self.input_step.value, 1.0)
        return ops.where(self.input_step.value > 0.0, ops.round(inputs / step) * step, inputs)

    def compute_output_shape(self, input_shape) -> tuple:
        return tuple(input_shape)


def activation_layer(form: str, activation: str | None, quantizes_output: bool = True):
    """The activation of a form, something to call."""
    if form == QUANTIZED:
        return QuantizedActivation(activation, quantizes_output, name="activation", dtype="float32")
    return keras.activations.get(activation)
