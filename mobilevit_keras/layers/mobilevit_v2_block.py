import keras
from keras import ops

from mobilevit_keras.layers.conv import ConvNormAct
from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, quantize, quantizer
from mobilevit_keras.layers.forms import QUANTIZED, TRAINING
from mobilevit_keras.layers.patches import Fold, Unfold
from mobilevit_keras.layers.pre_norm import attention_map
from mobilevit_keras.layers.quantized_layers import OnGrid
from mobilevit_keras.layers.resize import resize_aligned
from mobilevit_keras.layers.separable_transformer import SeparableTransformerLayer, map_norm


@keras.saving.register_keras_serializable("mobilevit_keras")
class MobileViTV2Block(keras.layers.Layer):
    """A depthwise convolution for the near, separable attention across patches for the far.

    An image whose sides the patch does not divide is resized up to the next multiple, with aligned
    corners, before everything else; it stays at that size. The output has no activation and
    nothing is added to it.

    Args:
        transformer_dim: Channels d of the transformer layers.
        num_layers: Transformer layers.
        patch_size: Side of the square patch.
        ffn_dim: Hidden channels of the feed-forward parts; twice `transformer_dim` by default.
        dilation_rate: Dilation of the depthwise convolution.
        dropout, attention_dropout, ffn_dropout: See `PreNormLayer`.
        activation: Activation of the depthwise convolution and the feed-forward parts.
        form: "training", or a form with folded norms.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, H, W, C)`, sides rounded up to multiples of `patch_size`.

    Reference: [Separable Self-attention](https://arxiv.org/abs/2206.02680), section 4.1.
    """

    def __init__(
        self,
        transformer_dim: int,
        num_layers: int,
        patch_size: int = 2,
        ffn_dim: int | None = None,
        dilation_rate: int = 1,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        activation: str = "silu",
        form: str = TRAINING,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.transformer_dim = transformer_dim
        self.num_layers = num_layers
        self.patch_size = patch_size
        self.ffn_dim = 2 * transformer_dim if ffn_dim is None else ffn_dim
        self.dilation_rate = dilation_rate
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.ffn_dropout = ffn_dropout
        self.activation = activation
        self.form = form

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        common = {"form": self.form, "dtype": self.dtype_policy}
        self.local_3x3 = ConvNormAct(
            None,
            3,
            dilation_rate=self.dilation_rate,
            activation=self.activation,
            name="local_3x3",
            **common,
        )
        self.local_1x1 = ConvNormAct(
            self.transformer_dim, 1, use_norm=False, activation=None, name="local_1x1", **common
        )
        self.unfold = Unfold(self.patch_size, dtype=self.dtype_policy, name="unfold")
        self.transformers = [
            SeparableTransformerLayer(
                self.ffn_dim,
                dropout=self.dropout,
                attention_dropout=self.attention_dropout,
                ffn_dropout=self.ffn_dropout,
                activation=self.activation,
                name=f"transformer_{i}",
                **common,
            )
            for i in range(self.num_layers)
        ]
        self.norm = map_norm(self.form, "norm", self.dtype_policy)
        self.fold = Fold(self.patch_size, dtype=self.dtype_policy, name="fold")
        self.project = ConvNormAct(channels, 1, activation=None, name="project", **common)
        self.quantize_tokens = quantizer(self.form, "tokens_quantizer")
        self.on_grid = None
        if self.form == QUANTIZED:
            self.on_grid = OnGrid(name="on_grid", dtype="float32")
            self.on_grid.build(input_shape)
        self.local_3x3.build(input_shape)
        self.local_1x1.build(input_shape)
        token_shape = (input_shape[0], self.patch_size**2, None, self.transformer_dim)
        self.unfold.build((None, None, None, self.transformer_dim))
        for layer in (*self.transformers, self.norm, self.fold):
            layer.build(token_shape)
        self.project.build((*input_shape[:-1], self.transformer_dim))

    def _tokens(self, inputs, training):
        """The transformers' input `(B, P, N, d)`, and the size of the map that was unfolded."""
        height, width = ops.shape(inputs)[1:3]
        up_height, up_width = (self._rounded_up(side) for side in (height, width))
        x = inputs
        # Of unknown sizes, only the run tells whether a resize is needed; the kernel then returns
        # an image of the right size as it is.
        if not (isinstance(height, int) and isinstance(width, int)) or (
            (up_height, up_width) != (height, width)
        ):
            x = resize_aligned(x, up_height, up_width)
        if self.on_grid is not None:
            # In the file a resize stays on the grid of what it resizes. Without one this changes
            # nothing, and still tells which grid it is.
            x = self.on_grid(x, training=training)
        x = self.local_1x1(self.local_3x3(x, training=training))
        x = self.unfold(x)
        if self.form == QUANTIZED:
            # Else the converter puts the norm's mean on the grid of the tokens.
            x = x * FLOAT_AGAIN
        return x, (up_height, up_width)

    def attention(self, inputs):
        """How much attention each pixel of the map that is unfolded receives.

        Args:
            inputs: `(B, H, W, C)`, what the block is called with.

        Returns:
            float32 `(B, H, W)`, sides rounded up to multiples of `patch_size`; see `attention_map`.
        """
        x, size = self._tokens(inputs, training=False)
        return attention_map(x, self.transformers, self.fold, *size)

    def call(self, inputs, training=None):
        x, (up_height, up_width) = self._tokens(inputs, training)
        for transformer in self.transformers:
            x = transformer(x, training=training)
        x = quantize(self.quantize_tokens, self.norm(x))
        x = self.fold(x, height=up_height, width=up_width)
        return self.project(x, training=training)

    def _rounded_up(self, side):
        return -(-side // self.patch_size) * self.patch_size

    def compute_output_shape(self, input_shape) -> tuple:
        sides = (None if side is None else self._rounded_up(side) for side in input_shape[1:3])
        return (input_shape[0], *sides, input_shape[-1])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "transformer_dim": self.transformer_dim,
            "num_layers": self.num_layers,
            "patch_size": self.patch_size,
            "ffn_dim": self.ffn_dim,
            "dilation_rate": self.dilation_rate,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "ffn_dropout": self.ffn_dropout,
            "activation": self.activation,
            "form": self.form,
        }
