import keras
from keras import ops

from mobilevit_keras.layers.conv import ConvNormAct
from mobilevit_keras.layers.fake_quant import (
    FLOAT_AGAIN,
    float_between_grids,
    quantize,
    quantizer,
)
from mobilevit_keras.layers.forms import QUANTIZED, TRAINING
from mobilevit_keras.layers.patches import Fold, Unfold
from mobilevit_keras.layers.pre_norm import attention_map
from mobilevit_keras.layers.resize import resize_bilinear
from mobilevit_keras.layers.transformer import TransformerLayer, layer_norm


@keras.saving.register_keras_serializable("mobilevit_keras")
class MobileViTBlock(keras.layers.Layer):
    """Convolutions for the near, transformers across patches for the far, fused with the input.

    An image whose sides the patch does not divide is resized up to the next multiple before the
    transformers and back after them, in training and evaluation alike.

    Args:
        transformer_dim: Channels d of the transformer layers.
        num_layers: Transformer layers.
        patch_size: Side of the square patch.
        num_heads: Attention heads.
        ffn_dim: Hidden channels of the feed-forward parts; twice `transformer_dim` by default.
        use_fusion: Whether block input and output are concatenated and convolved. Without it the
            projection is the output and nothing is added in its place (the paper's ablation).
        dropout, attention_dropout, ffn_dropout: See `TransformerLayer`.
        activation: Activation of convolutions and feed-forward parts.
        form: "training", or a form with folded norms.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, H, W, C)`

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), section 3.1 and figure 1.
    """

    def __init__(
        self,
        transformer_dim: int,
        num_layers: int,
        patch_size: int = 2,
        num_heads: int = 4,
        ffn_dim: int | None = None,
        use_fusion: bool = True,
        dropout: float = 0.1,
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
        self.num_heads = num_heads
        self.ffn_dim = 2 * transformer_dim if ffn_dim is None else ffn_dim
        self.use_fusion = use_fusion
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.ffn_dropout = ffn_dropout
        self.activation = activation
        self.form = form

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        common = {"form": self.form, "dtype": self.dtype_policy}
        self.local_3x3 = ConvNormAct(
            channels, 3, activation=self.activation, name="local_3x3", **common
        )
        self.local_1x1 = ConvNormAct(
            self.transformer_dim, 1, use_norm=False, activation=None, name="local_1x1", **common
        )
        self.unfold = Unfold(self.patch_size, dtype=self.dtype_policy, name="unfold")
        self.transformers = [
            TransformerLayer(
                self.num_heads,
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
        self.norm = layer_norm(self.form, "norm", self.dtype_policy)
        self.fold = Fold(self.patch_size, dtype=self.dtype_policy, name="fold")
        # The final LayerNorm's shift lands in this bias, past a resize whose weights sum to one.
        self.project = ConvNormAct(
            channels,
            1,
            activation=self.activation,
            # The converter gives it the grid of what it is joined to, and no other.
            quantizes_output=not self.use_fusion,
            name="project",
            **common,
        )
        self.quantize_tokens = quantizer(self.form, "tokens_quantizer")
        # Without fusion nothing is joined, and a grid that meets no values has no range.
        if self.use_fusion:
            self.quantize_joined = quantizer(self.form, "joined_quantizer")
        self.local_3x3.build(input_shape)
        self.local_1x1.build(input_shape)
        map_shape = (*input_shape[:-1], self.transformer_dim)
        token_shape = (input_shape[0], self.patch_size**2, None, self.transformer_dim)
        self.unfold.build((None, None, None, self.transformer_dim))
        for layer in (*self.transformers, self.norm, self.fold):
            layer.build(token_shape)
        self.project.build(map_shape)
        if self.use_fusion:
            self.fuse = ConvNormAct(channels, 3, activation=self.activation, name="fuse", **common)
            self.fuse.build((*input_shape[:-1], 2 * channels))
            if self.form == QUANTIZED:
                self.project.answer_on(self.quantize_joined)

    def _tokens(self, inputs, training):
        """The transformers' input `(B, P, N, d)`, its map's size, if it was resized to that."""
        p = self.patch_size
        x = self.local_1x1(self.local_3x3(inputs, training=training))
        height, width = ops.shape(x)[1:3]
        up_height, up_width = -(-height // p) * p, -(-width // p) * p
        # Of unknown sizes, only the run tells whether a resize is needed; the kernel then returns
        # an image of the right size as it is.
        resizes = not (isinstance(height, int) and isinstance(width, int)) or (
            (up_height, up_width) != (height, width)
        )
        if resizes:
            x = resize_bilinear(x, up_height, up_width)
            if self.form == QUANTIZED:
                # In the file a resize stays on the grid of what it resizes.
                x = self.local_1x1.act(x)
        x = self.unfold(x)
        if self.form == QUANTIZED:
            # Else the converter puts the norm's mean on the grid of the tokens.
            x = x * FLOAT_AGAIN
        return x, (up_height, up_width), resizes

    def attention(self, inputs):
        """How much attention each pixel of the map that is unfolded receives.

        Args:
            inputs: `(B, H, W, C)`, what the block is called with.

        Returns:
            float32 `(B, H, W)`, sides rounded up to multiples of `patch_size`; see `attention_map`.
        """
        x, size, _ = self._tokens(inputs, training=False)
        return attention_map(x, self.transformers, self.fold, *size)

    def call(self, inputs, training=None):
        x, (up_height, up_width), resizes = self._tokens(inputs, training)
        for transformer in self.transformers:
            x = transformer(x, training=training)
        x = quantize(self.quantize_tokens, self.norm(x))
        x = self.fold(x, height=up_height, width=up_width)
        if resizes:
            height, width = ops.shape(inputs)[1:3]
            x = quantize(self.quantize_tokens, resize_bilinear(x, height, width))
        x = self.project(x, training=training)
        if self.use_fusion:
            if self.form == QUANTIZED:
                inputs = float_between_grids(inputs)
            joined = quantize(self.quantize_joined, ops.concatenate([inputs, x], axis=-1))
            x = self.fuse(joined, training=training)
        return x

    def compute_output_shape(self, input_shape) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "transformer_dim": self.transformer_dim,
            "num_layers": self.num_layers,
            "patch_size": self.patch_size,
            "num_heads": self.num_heads,
            "ffn_dim": self.ffn_dim,
            "use_fusion": self.use_fusion,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "ffn_dropout": self.ffn_dropout,
            "activation": self.activation,
            "form": self.form,
        }
