import keras
from keras import ops

from mobilevit_keras.layers.batch_norm import EPSILON
from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, quantize
from mobilevit_keras.layers.forms import QUANTIZED, TRAINING
from mobilevit_keras.layers.pre_norm import PreNormLayer, softmax_over_tokens
from mobilevit_keras.layers.quantized_layers import conv_layer


def token_dense(
    units: int,
    name: str,
    dtype,
    form: str = TRAINING,
    stddev: float = 0.02,
    use_bias: bool = True,
) -> keras.layers.Conv2D:
    """A dense layer over the channels of `(B, P, N, C)`, written as a 1x1 convolution.

    Runtimes fuse its bias, quantize its kernel per channel and convert it, none of which holds for
    a matrix product of rank 4.
    """
    # The authors truncate this normal distribution so far out that nothing is cut.
    normal = keras.initializers.RandomNormal(stddev=stddev)
    return conv_layer(form)(
        units, 1, use_bias=use_bias, kernel_initializer=normal, name=name, dtype=dtype
    )


def layer_norm(form: str, name: str, dtype) -> keras.layers.LayerNormalization:
    """LayerNorm over channels; without scale and shift where `form` has them in the next kernel."""
    affine = form == TRAINING
    return keras.layers.LayerNormalization(
        epsilon=EPSILON, center=affine, scale=affine, name=name, dtype=dtype
    )


@keras.saving.register_keras_serializable("mobilevit_keras")
class TransformerLayer(PreNormLayer):
    """Pre-norm transformer layer over the N tokens of each of P independent sequences.

    Args:
        num_heads: Attention heads; must divide the channels.
        ffn_dim, dropout, attention_dropout, ffn_dropout, activation, form: See `PreNormLayer`.

    Input shape: `(B, P, N, C)`
    Output shape: `(B, P, N, C)`

    Raises:
        ValueError: If `num_heads` does not divide C.

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), section 3.1.
    """

    def __init__(self, num_heads: int, ffn_dim: int, **kwargs) -> None:
        super().__init__(ffn_dim, **kwargs)
        self.num_heads = num_heads
        # Set by an exporter, see `_products`; not a part of what the layer is.
        self.splits_products = False

    @property
    def query_scale(self) -> float:
        return (self.query.filters // self.num_heads) ** -0.5

    def make_norm(self, name: str) -> keras.layers.LayerNormalization:
        return layer_norm(self.form, name, self.dtype_policy)

    def make_dense(self, units: int, name: str, channels: int) -> keras.layers.Conv2D:
        return token_dense(units, name, self.dtype_policy, self.form)

    def query_dim(self, channels: int) -> int:
        return channels

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        if channels % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the channels. "
                f"Received: num_heads={self.num_heads}, channels={channels}."
            )
        super().build(input_shape)

    def _split_heads(self, x, num_tokens):
        batch = ops.shape(x)[0]
        positions, channels = x.shape[1], x.shape[3]
        head_dim = channels // self.num_heads
        tokens = -1 if num_tokens is None else positions * num_tokens
        # (B, P, N, C) -> (B, P * N, heads, C / heads)
        x = ops.reshape(x, (batch, tokens, self.num_heads, head_dim))
        # -> (B, heads, P * N, C / heads)
        x = ops.transpose(x, (0, 2, 1, 3))
        # -> (B, heads * P, N, C / heads); the batch stays in front, as GPU delegates want it.
        sequences = self.num_heads * positions
        return ops.reshape(
            x, (batch, sequences, -1 if num_tokens is None else num_tokens, head_dim)
        )

    def _merge_heads(self, x, positions, num_tokens):
        batch = ops.shape(x)[0]
        head_dim = x.shape[3]
        tokens = -1 if num_tokens is None else positions * num_tokens
        # (B, heads * P, N, C / heads) -> (B, heads, P * N, C / heads)
        x = ops.reshape(x, (batch, self.num_heads, tokens, head_dim))
        # -> (B, P * N, heads, C / heads)
        x = ops.transpose(x, (0, 2, 1, 3))
        # -> (B, P, N, C)
        return ops.reshape(
            x,
            (
                batch,
                positions,
                -1 if num_tokens is None else num_tokens,
                self.num_heads * head_dim,
            ),
        )

    def _heads(self, x, name):
        dense, grid = getattr(self, name), getattr(self, f"quantize_{name}")
        return self._split_heads(quantize(grid, dense(x)), x.shape[2])

    def attend(self, x, training):
        positions, num_tokens = x.shape[1:3]
        q, k, v = (self._heads(x, name) for name in ("query", "key", "value"))
        if self.form == TRAINING:
            q = q * self.query_scale
        if self.form == QUANTIZED:
            # In int8 the probabilities of 256 tokens would share 256 values: most would be 0 or 1.
            v = v * FLOAT_AGAIN
        return self._merge_heads(self._products(q, k, v, training), positions, num_tokens)

    def received(self, x):
        """The mean of the shares that all queries of all heads give each token."""
        batch, positions, num_tokens = ops.shape(x)[:3]
        q, k = (self._heads(x, name) for name in ("query", "key"))
        if self.form == TRAINING:
            q = q * self.query_scale
        shares = softmax_over_tokens(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))))
        # (B, heads * P, N, N) -> (B, heads * P, N)
        shares = ops.mean(ops.cast(shares, "float32"), axis=2)
        # -> (B, heads, P, N) -> (B, P, N)
        shares = ops.reshape(shares, (batch, self.num_heads, positions, num_tokens))
        return ops.mean(shares, axis=1)

    def _products(self, q, k, v, training):
        """Softmax(q k^T) v of `(B, S, N, C / heads)`, for each of the S sequences by itself."""
        # -> (B, S, C / heads, N)
        k = ops.transpose(k, (0, 1, 3, 2))
        if self.splits_products:
            # A runtime with a fast product for one sequence only, such as TF.js's WASM, gets many.
            # It must not be one that transposes, either: hence the split after the transpose, where
            # the converter cannot make them one.
            sequences = zip(
                *(ops.split(each, each.shape[1], axis=1) for each in (q, k, v)), strict=True
            )
            return ops.concatenate([self._product(*each, training) for each in sequences], axis=1)
        return self._product(q, k, v, training)

    def _product(self, q, k, v, training):
        probabilities = softmax_over_tokens(ops.matmul(q, k))
        return ops.matmul(self.attention_drop(probabilities, training=training), v)

    def get_config(self) -> dict:
        return {**super().get_config(), "num_heads": self.num_heads}
