import keras
from keras import ops

from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, quantize
from mobilevit_keras.layers.forms import QUANTIZED, TRAINING
from mobilevit_keras.layers.map_norm import MapNorm
from mobilevit_keras.layers.pre_norm import PreNormLayer, softmax_over_tokens
from mobilevit_keras.layers.transformer import token_dense


def map_norm(form: str, name: str, dtype) -> MapNorm:
    """The norm of MobileViTv2; not affine where `form` has scale and shift in the next kernel."""
    return MapNorm(affine=form == TRAINING, name=name, dtype=dtype)


@keras.saving.register_keras_serializable("mobilevit_keras")
class SeparableTransformerLayer(PreNormLayer):
    """MobileViTv2's transformer layer, whose cost grows with the N tokens and not their square.

    Each token has a score, a softmax over the tokens of its sequence; by these the keys are summed
    up to one context vector, and each token's value, positive or nought, is multiplied by it.

    Args:
        ffn_dim: Hidden channels of the feed-forward part.
        dropout: 0 by default, as its authors have it; see `PreNormLayer`.
        **kwargs: Further ones of `PreNormLayer`.

    Input shape: `(B, P, N, C)`
    Output shape: `(B, P, N, C)`

    Reference: [Separable Self-attention](https://arxiv.org/abs/2206.02680), section 3.
    """

    # No int8 matrix product takes them.
    symmetric_grids = False

    def __init__(self, ffn_dim: int, dropout: float = 0.0, **kwargs) -> None:
        super().__init__(ffn_dim, dropout, **kwargs)

    def make_norm(self, name: str) -> MapNorm:
        return map_norm(self.form, name, self.dtype_policy)

    def make_dense(self, units: int, name: str, channels: int) -> keras.layers.Conv2D:
        # To its authors all dense layers are convolutions, He-normal by the fan out, and those of
        # query, key and value are one.
        fan_out = 1 + 2 * channels if name in ("query", "key", "value") else units
        return token_dense(
            units,
            name,
            self.dtype_policy,
            self.form,
            stddev=(2.0 / fan_out) ** 0.5,
            # A number that all scores have in them moves no softmax. It is kept where weights are
            # ported; of a single channel, TF.js could not add it.
            use_bias=name != "query" or self.form == TRAINING,
        )

    def query_dim(self, channels: int) -> int:
        return 1

    def _scores(self, x):
        """What each token's key counts in the context, `(B, P, 1, N)`."""
        query = quantize(self.quantize_query, self.query(x))
        if self.form == QUANTIZED:
            # In int8 the scores of 256 tokens would share 256 values: most would be 0.
            query = query * FLOAT_AGAIN
        # (B, P, N, 1) -> (B, P, 1, N)
        return softmax_over_tokens(ops.transpose(query, (0, 1, 3, 2)))

    def received(self, x):
        """The scores by which the context is made."""
        # (B, P, 1, N) -> (B, P, N)
        return ops.cast(self._scores(x)[:, :, 0], "float32")

    def attend(self, x, training):
        scores = self.attention_drop(self._scores(x), training=training)
        # Sums of products without the products: (B, P, 1, N) x (B, P, N, C) -> (B, P, 1, C)
        context = ops.matmul(scores, quantize(self.quantize_key, self.key(x)))
        # (B, P, N, C) * (B, P, 1, C) -> (B, P, N, C)
        return quantize(self.quantize_value, ops.relu(self.value(x))) * context
