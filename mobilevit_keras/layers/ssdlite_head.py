from collections.abc import Sequence

import keras
from keras import ops

from mobilevit_keras.layers.conv import ConvNormAct
from mobilevit_keras.layers.fake_quant import ActivationQuantizer
from mobilevit_keras.layers.forms import TRAINING, check_form
from mobilevit_keras.layers.quantized_layers import conv_layer


@keras.saving.register_keras_serializable("mobilevit_keras")
class SSDLiteHead(keras.layers.Layer):
    """What one map says of its anchors: where the boxes are, and of what class.

    A 1x1 convolution to `filters` channels where the map has others, a 3x3 depthwise convolution,
    and a 1x1 convolution each for boxes and classes.

    Args:
        num_anchors: Anchors in a cell A.
        num_outputs: Classes with background K + 1.
        filters: Channels before the depthwise convolution. None for a map of one cell: there are
            the last convolutions only.
        activation: Activation of the first convolution.
        form: "training", or a form with folded norms. In "quantized" boxes and logits have no grid
            here: those of all maps are joined and have one each there, see `answer_on`.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, H * W * A, 4)` and `(B, H * W * A, K + 1)`, encoded boxes and logits in
        float32; cell after cell, anchor after anchor.

    Reference: [SSD](https://arxiv.org/abs/1512.02325), section 2.1;
        [MobileNetV2](https://arxiv.org/abs/1801.04381), section 6.2.
    """

    def __init__(
        self,
        num_anchors: int,
        num_outputs: int,
        filters: int | None = None,
        activation: str = "relu",
        form: str = TRAINING,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.num_anchors = num_anchors
        self.num_outputs = num_outputs
        self.filters = filters
        self.activation = activation
        self.form = check_form(form)
        self.project = None
        self.depthwise = None
        # In float32, because a loss in float16 overflows.
        convolution = conv_layer(form)
        self.boxes = convolution(num_anchors * 4, 1, name="boxes", dtype="float32")
        self.logits = convolution(num_anchors * num_outputs, 1, name="logits", dtype="float32")

    def build(self, input_shape) -> None:
        common = {"form": self.form, "dtype": self.dtype_policy}
        shape = input_shape
        if self.filters not in (None, input_shape[-1]):
            self.project = ConvNormAct(
                self.filters, 1, activation=self.activation, name="project", **common
            )
            self.project.build(shape)
            shape = (*shape[:-1], self.filters)
        if self.filters is not None:
            self.depthwise = ConvNormAct(None, 3, activation=None, name="depthwise", **common)
            self.depthwise.build(shape)
        self.boxes.build(shape)
        self.logits.build(shape)

    def answer_on(self, boxes: ActivationQuantizer, logits: ActivationQuantizer) -> None:
        """Tells which grids follow, in the form "quantized".

        Args:
            boxes, logits: The grids that the boxes and logits of all maps meet next.
        """
        self.boxes.answer_on(boxes)
        self.logits.answer_on(logits)

    def reorder_boxes(self, order: Sequence[int]) -> None:
        """Gives the numbers of each box other places, by those of the channels that they come from.

        Args:
            order: For each of the four numbers, where it stood before.
        """
        for weight in (self.boxes.kernel, self.boxes.bias):
            values = ops.convert_to_numpy(weight)
            # (…, A * 4) -> (…, A, 4) -> (…, A * 4)
            by_anchor = values.reshape(*values.shape[:-1], self.num_anchors, 4)
            weight.assign(by_anchor[..., list(order)].reshape(values.shape))

    def call(self, inputs, training=None):
        x = inputs
        if self.project is not None:
            x = self.project(x, training=training)
        if self.depthwise is not None:
            x = self.depthwise(x, training=training)
        # (B, H, W, A * n) -> (B, H * W * A, n)
        return (
            ops.reshape(self.boxes(x), (-1, self._num_rows(x), 4)),
            ops.reshape(self.logits(x), (-1, self._num_rows(x), self.num_outputs)),
        )

    def _num_rows(self, x):
        height, width = ops.shape(x)[1:3]
        return height * width * self.num_anchors

    def compute_output_shape(self, input_shape) -> tuple:
        batch, height, width, _ = input_shape
        rows = None if None in (height, width) else height * width * self.num_anchors
        return (batch, rows, 4), (batch, rows, self.num_outputs)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_anchors": self.num_anchors,
            "num_outputs": self.num_outputs,
            "filters": self.filters,
            "activation": self.activation,
            "form": self.form,
        }
