import keras

from mobilevit_keras.layers.conv import ConvNormAct
from mobilevit_keras.layers.fake_quant import quantize, quantizer
from mobilevit_keras.layers.forms import TRAINING


def make_divisible(value: float, divisor: int = 8) -> int:
    """Rounds `value` to the nearest multiple of `divisor`, never below 0.9 of it."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@keras.saving.register_keras_serializable("mobilevit_keras")
class InvertedResidual(keras.layers.Layer):
    """MobileNetV2's block: 1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection.

    The input is added to the output where both have one shape: stride 1 and equal channels.

    Args:
        filters: Output channels.
        expand_ratio: Hidden channels per input channel; the product is rounded to a multiple of 8.
        strides: Stride of the depthwise convolution.
        dilation_rate: Dilation of the depthwise convolution.
        activation: Activation after expansion and depthwise convolution.
        form: "training", or a form with folded norms.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, ceil(H / strides), ceil(W / strides), filters)`

    Reference: [MobileNetV2](https://arxiv.org/abs/1801.04381), section 3.3.
    """

    def __init__(
        self,
        filters: int,
        expand_ratio: float,
        strides: int = 1,
        dilation_rate: int = 1,
        activation: str = "silu",
        form: str = TRAINING,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.expand_ratio = expand_ratio
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.activation = activation
        self.form = form
        self.use_residual = False
        self.sum_quantizer = None

    def build(self, input_shape) -> None:
        hidden = make_divisible(input_shape[-1] * self.expand_ratio)
        self.use_residual = self.strides == 1 and input_shape[-1] == self.filters
        if self.use_residual:
            self.sum_quantizer = quantizer(self.form, "sum_quantizer")
        common = {"form": self.form, "dtype": self.dtype_policy}
        self.expand = ConvNormAct(hidden, 1, activation=self.activation, name="expand", **common)
        self.depthwise = ConvNormAct(
            None,
            3,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            activation=self.activation,
            name="depthwise",
            **common,
        )
        self.project = ConvNormAct(self.filters, 1, activation=None, name="project", **common)
        shape = input_shape
        for layer in (self.expand, self.depthwise, self.project):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs, training=None):
        x = self.expand(inputs, training=training)
        x = self.depthwise(x, training=training)
        x = self.project(x, training=training)
        return quantize(self.sum_quantizer, inputs + x) if self.use_residual else x

    def compute_output_shape(self, input_shape) -> tuple:
        sides = (None if side is None else -(-side // self.strides) for side in input_shape[1:3])
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "expand_ratio": self.expand_ratio,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "activation": self.activation,
            "form": self.form,
        }
