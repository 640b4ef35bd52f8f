import keras
from keras import ops

from mobilevit_keras.layers.conv import ConvNormAct
from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, quantize, quantizer
from mobilevit_keras.layers.forms import QUANTIZED, TRAINING, check_form
from mobilevit_keras.layers.resize import resize_bilinear


@keras.saving.register_keras_serializable("mobilevit_keras")
class ASPP(keras.layers.Layer):
    """Atrous spatial pyramid pooling: what is near, further, far and everywhere, side by side.

    A 1x1 convolution, 3x3 convolutions with growing dilation and the mean of the whole map are
    concatenated in this order and projected by a 1x1 convolution; dropout follows. Batch norm and
    activation follow every convolution.

    Args:
        filters: Channels of each branch and of the output.
        dilation_rates: Dilations of the 3x3 convolutions.
        dropout: Rate after the projection.
        activation: Name of a Keras activation.
        form: "training", or a form with folded norms. In "quantized" all five branches answer on
            one grid, that of what they are joined to; only the mean of the map is float.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, H, W, filters)`

    Example:
    >>> ASPP(filters=8)(np.zeros((1, 4, 6, 3))).shape
    TensorShape([1, 4, 6, 8])

    Reference: [DeepLabv3](https://arxiv.org/abs/1706.05587), section 3.3.
    """

    def __init__(
        self,
        filters: int = 256,
        dilation_rates: tuple[int, ...] = (6, 12, 18),
        dropout: float = 0.1,
        activation: str = "relu",
        form: str = TRAINING,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.dilation_rates = tuple(dilation_rates)
        self.dropout = dropout
        self.activation = activation
        self.form = check_form(form)

    def build(self, input_shape) -> None:
        common = {"activation": self.activation, "form": self.form, "dtype": self.dtype_policy}
        # The converter gives them the grid of what they are joined to, and no other.
        joins = {"quantizes_output": False, **common}
        self.branches = [ConvNormAct(self.filters, 1, name="branch_0", **joins)]
        for number, rate in enumerate(self.dilation_rates, start=1):
            self.branches.append(
                ConvNormAct(self.filters, 3, dilation_rate=rate, name=f"branch_{number}", **joins)
            )
        self.pooled = ConvNormAct(self.filters, 1, name="pooled", **joins)
        self.project = ConvNormAct(self.filters, 1, name="project", **common)
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        self.quantize_mean = quantizer(self.form, "mean_quantizer")
        self.quantize_joined = quantizer(self.form, "joined_quantizer")
        for layer in (*self.branches, self.pooled):
            layer.build(input_shape)
            if self.form == QUANTIZED:
                layer.answer_on(self.quantize_joined)
        joined = self.filters * (len(self.branches) + 1)
        self.project.build((*input_shape[:-1], joined))

    def call(self, inputs, training=None):
        height, width = ops.shape(inputs)[1:3]
        maps = [branch(inputs, training=training) for branch in self.branches]
        # (B, H, W, C) -> (B, 1, 1, C); the mean of a mixed-precision map is taken in float32.
        x = ops.cast(inputs, "float32")
        if self.form == QUANTIZED:
            # Else the converter puts the mean on the map's grid, which is far too coarse for it.
            x = x * FLOAT_AGAIN
        mean = quantize(self.quantize_mean, ops.mean(x, axis=(1, 2), keepdims=True))
        # A resize of one pixel repeats it, in int8 as well: runtimes have it where they lack a
        # broadcast.
        maps.append(resize_bilinear(self.pooled(mean, training=training), height, width))
        joined = quantize(self.quantize_joined, ops.concatenate(maps, axis=-1))
        x = self.project(joined, training=training)
        return self.drop(x, training=training)

    def compute_output_shape(self, input_shape) -> tuple:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "dilation_rates": self.dilation_rates,
            "dropout": self.dropout,
            "activation": self.activation,
            "form": self.form,
        }
