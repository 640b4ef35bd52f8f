import keras
from keras import ops

from mobilevit_keras.layers.batch_norm import BatchNorm
from mobilevit_keras.layers.forms import TRAINING, check_form
from mobilevit_keras.layers.quantized_layers import activation_layer, conv_layer


@keras.saving.register_keras_serializable("mobilevit_keras")
class ConvNormAct(keras.layers.Layer):
    """Convolution, batch norm, activation, with PyTorch's symmetric padding.

    Each side is padded by `(kernel_size - 1) // 2 * dilation_rate`. Keras's "same" pads only the
    far side of an even image at stride 2, which shifts every later pixel: ported weights fail.

    Args:
        filters: Output channels. None makes the convolution depthwise, with as many as arrive.
        kernel_size: Side of the square kernel.
        strides: Stride in both directions.
        dilation_rate: Dilation in both directions.
        use_norm: Whether batch norm follows. Without it the convolution has no bias either, unless
            `form` has folded norms.
        activation: Name of a Keras activation, or None.
        form: "training", or a form in which batch norm is folded into kernel and bias; in
            "quantized" kernel and outputs are fake-quantized too.
        quantizes_output: Whether the form "quantized" has a grid for the output, too; without, what
            follows must bring one.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, ceil(H / strides), ceil(W / strides), filters)`

    Example:
    >>> ConvNormAct(16, 3, strides=2)(np.zeros((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), appendix.
    """

    def __init__(
        self,
        filters: int | None,
        kernel_size: int = 3,
        strides: int = 1,
        dilation_rate: int = 1,
        use_norm: bool = True,
        activation: str | None = "silu",
        form: str = TRAINING,
        quantizes_output: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.use_norm = use_norm
        self.activation = activation
        self.form = check_form(form)
        self.quantizes_output = quantizes_output
        self.padding = (kernel_size - 1) // 2 * dilation_rate
        # At stride 1 "same" is symmetric too, and one operation less than a pad and a convolution.
        self.pads_itself = strides > 1 and self.padding > 0
        self.conv = None
        self.norm = None
        if use_norm and form == TRAINING:
            self.norm = BatchNorm(dtype=self.dtype_policy, name="norm")
        self.act = activation_layer(form, activation, quantizes_output)

    def build(self, input_shape) -> None:
        common = {
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": "valid" if self.pads_itself else "same",
            "dilation_rate": self.dilation_rate,
            "use_bias": self.use_norm and self.form != TRAINING,
            "dtype": self.dtype_policy,
            "name": "conv",
        }
        if self.filters is None:
            # He-normal by the fan out of a PyTorch depthwise kernel [C, 1, k, k]: C * k * k.
            deviation = (2.0 / (self.kernel_size**2 * input_shape[-1])) ** 0.5
            self.conv = conv_layer(self.form, is_depthwise=True)(
                depthwise_initializer=keras.initializers.RandomNormal(stddev=deviation), **common
            )
        else:
            he_normal = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
            self.conv = conv_layer(self.form)(self.filters, kernel_initializer=he_normal, **common)
        self.conv.build(self._padded(input_shape))
        if isinstance(self.act, keras.layers.Layer):
            self.act.build(self.compute_output_shape(input_shape))
            self.conv.answer_on(self.act.first_grid)
        if self.norm is not None:
            self.norm.build(self.compute_output_shape(input_shape))

    def answer_on(self, grid) -> None:
        """Tells which grid follows, in the form "quantized" without one for the output.

        Args:
            grid: The `ActivationQuantizer` that meets the output next.
        """
        self.act.answer_on(grid)
        self.conv.answer_on(self.act.first_grid or grid)

    def _padded(self, shape) -> tuple:
        extra = 2 * self.padding if self.pads_itself else 0
        height, width = (None if side is None else side + extra for side in shape[1:3])
        return (shape[0], height, width, shape[3])

    def call(self, inputs, training=None):
        x = inputs
        if self.pads_itself:
            sides = (self.padding, self.padding)
            x = ops.pad(x, ((0, 0), sides, sides, (0, 0)))
        x = self._convolved(x)
        if self.norm is not None:
            x = self.norm(x, training=training)
        return self.act(x)

    def _convolved(self, x):
        sides = ops.shape(x)[:3]
        if self.dilation_rate == 1 or None not in x.shape[1:3]:
            return self.conv(x)
        # TensorFlow dilates by BatchToSpaceND, of which its graph optimizer takes both unknown
        # sides for one: where one is known, that took the other's place in all that meets the
        # answer, and so in what meets its gradient. A reshape says what the sides are; of the
        # input it does so to the gradient.
        x = self.conv(ops.reshape(x, (*sides, x.shape[-1])))
        return ops.reshape(x, (*sides, x.shape[-1]))

    def compute_output_shape(self, input_shape) -> tuple:
        sides = (None if side is None else -(-side // self.strides) for side in input_shape[1:3])
        return (input_shape[0], *sides, self.filters or input_shape[-1])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "dilation_rate": self.dilation_rate,
            "use_norm": self.use_norm,
            "activation": self.activation,
            "form": self.form,
            "quantizes_output": self.quantizes_output,
        }
