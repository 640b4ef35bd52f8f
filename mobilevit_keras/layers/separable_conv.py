import keras

from mobilevit_keras.layers.conv import ConvNormAct
from mobilevit_keras.layers.forms import TRAINING


@keras.saving.register_keras_serializable("mobilevit_keras")
class SeparableConv(keras.layers.Layer):
    """3x3 depthwise convolution with norm, then 1x1 convolution with norm and activation.

    Args:
        filters: Output channels.
        strides: Stride of the depthwise convolution.
        activation: Activation at the end.
        form: "training", or a form with folded norms.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, ceil(H / strides), ceil(W / strides), filters)`
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        activation: str | None = "relu",
        form: str = TRAINING,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.activation = activation
        self.form = form
        common = {"form": form, "dtype": self.dtype_policy}
        self.depthwise = ConvNormAct(
            None, 3, strides=strides, activation=None, name="depthwise", **common
        )
        self.pointwise = ConvNormAct(filters, 1, activation=activation, name="pointwise", **common)

    def build(self, input_shape) -> None:
        self.depthwise.build(input_shape)
        self.pointwise.build(self.depthwise.compute_output_shape(input_shape))

    def call(self, inputs, training=None):
        return self.pointwise(self.depthwise(inputs, training=training), training=training)

    def compute_output_shape(self, input_shape) -> tuple:
        return self.pointwise.compute_output_shape(self.depthwise.compute_output_shape(input_shape))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "activation": self.activation,
            "form": self.form,
        }
