"""Fake quantization: values rounded to the int8 grid of the converted file, in float arithmetic.

In training by Keras's operation, which lets gradients through, and so in the graph that is
converted, which knows that operation. In inference by the arithmetic of the file itself: codes and
their sums are whole numbers, which float32 holds exactly up to 2^24, and are multiplied by one
factor in the order in which XNNPACK does. Sums of fractions would land on the other side of a
rounding once in some 300,000 values, which is more than once in each image.

Here are the grids and what a call is for; the layers between the grids are in quantized_layers.
"""

import contextlib
import math
from collections.abc import Iterator

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

SMALLEST_RANGE = 1e-6
_PROBE_SIDE = 64
_STEP_BITS = 16

INFERENCE = "inference"
OBSERVED = "observed"
PROBED = "probed"
CONVERTED = "converted"


class FakeQuantized(keras.layers.Layer):
    """What every fake-quantized layer has: a mode, which says what a call of it is for.

    In `INFERENCE` it computes as the file does, in `CONVERTED` it makes the graph that becomes
    the file. In `OBSERVED` values pass unrounded and are looked at, in `PROBED` grids answer
    their steps; see `observed` and `measure_input_steps`.
    """

    mode = INFERENCE

    def computes_in_codes(self, training) -> bool:
        """Whether a call computes as the file does."""
        return not training and self.mode == INFERENCE


@contextlib.contextmanager
def _mode(model: keras.layers.Layer, mode: str) -> Iterator[list[FakeQuantized]]:
    """Has the fake-quantized layers of a model in a mode for as long as the block; yields them."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, FakeQuantized)]
    for layer in layers:
        layer.mode = mode
    try:
        yield layers
    finally:
        for layer in layers:
            layer.mode = INFERENCE


@keras.saving.register_keras_serializable("mobilevit_keras")
class ActivationQuantizer(FakeQuantized):
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
        if self.mode == PROBED:
            return ops.zeros_like(inputs) + self.step
        if self.mode == OBSERVED and self.fixed_range is None:
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
            high = ops.maximum(high, low + SMALLEST_RANGE)
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
    with _mode(model, OBSERVED):
        yield quantizers


def converted(model: keras.Model) -> contextlib.AbstractContextManager:
    """Has the model's calls make the graph that the converter takes."""
    return _mode(model, CONVERTED)


def measure_input_steps(model: keras.Model) -> None:
    """Tells every convolution of a model with ranges the step of the grid that its input is on.

    Each grid is made to answer its own step everywhere, which whatever lies between it and the next
    convolution leaves alone: the model's structure need not be known.
    """
    shape = [side or _PROBE_SIDE for side in model.input_shape[1:]]
    with _mode(model, PROBED):
        model(np.zeros((1, *shape), np.float32), training=False)
