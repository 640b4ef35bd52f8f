import warnings

import keras
from keras import ops

from mobilevit_keras.layers.batch_norm import EPSILON
from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, quantize, quantizer
from mobilevit_keras.layers.forms import QUANTIZED, TRAINING, check_form
from mobilevit_keras.layers.quantized_layers import activation_layer, conv_layer


def token_dense(units: int, name: str, dtype, form: str = TRAINING) -> keras.layers.Conv2D:
    """A dense layer over the channels of `(B, P, N, C)`, written as a 1x1 convolution.

    Runtimes fuse its bias, quantize its kernel per channel and convert it, none of which holds for
    a matrix product of rank 4.
    """
    # The authors truncate this normal distribution so far out that nothing is cut.
    normal = keras.initializers.RandomNormal(stddev=0.02)
    return conv_layer(form)(units, 1, kernel_initializer=normal, name=name, dtype=dtype)


def layer_norm(form: str, name: str, dtype) -> keras.layers.LayerNormalization:
    """LayerNorm over channels; without scale and shift where `form` has them in the next kernel."""
    affine = form == TRAINING
    return keras.layers.LayerNormalization(
        epsilon=EPSILON, center=affine, scale=affine, name=name, dtype=dtype
    )


@keras.saving.register_keras_serializable("mobilevit_keras")
class TransformerLayer(keras.layers.Layer):
    """Pre-norm transformer layer over the N tokens of each of P independent sequences.

    x + Dropout(Output(Attention(Norm(x)))), then x + Dropout(Dense(Dropout(act(Dense(Norm(x)))))).
    There is no positional encoding: what a token's place means is left to the convolutions around.

    Args:
        num_heads: Attention heads; must divide the channels.
        ffn_dim: Hidden channels of the feed-forward part.
        dropout: Rate after the attention's output projection and after the feed-forward part.
        attention_dropout: Rate on the attention probabilities.
        ffn_dropout: Rate after the feed-forward part's activation.
        activation: Activation inside the feed-forward part.
        form: "training", or a form with folded norms and attention scale. In "quantized" the dense
            layers are fake-quantized; the sums, the norms, softmax and both products stay float.

    Input shape: `(B, P, N, C)`
    Output shape: `(B, P, N, C)`

    Raises:
        ValueError: If `num_heads` does not divide C.

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), section 3.1.
    """

    def __init__(
        self,
        num_heads: int,
        ffn_dim: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        activation: str = "silu",
        form: str = TRAINING,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.ffn_dim = ffn_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.ffn_dropout = ffn_dropout
        self.activation = activation
        self.form = check_form(form)
        self.act = activation_layer(form, activation)
        # Set by an exporter, see `_products`; not a part of what the layer is.
        self.splits_products = False

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        if channels % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the channels. "
                f"Received: num_heads={self.num_heads}, channels={channels}."
            )
        dtype = self.dtype_policy
        hidden_shape = (*input_shape[:-1], self.ffn_dim)
        self.attention_norm = layer_norm(self.form, "attention_norm", dtype)
        self.query = token_dense(channels, "query", dtype, self.form)
        self.key = token_dense(channels, "key", dtype, self.form)
        self.value = token_dense(channels, "value", dtype, self.form)
        self.output_dense = token_dense(channels, "output_dense", dtype, self.form)
        self.ffn_norm = layer_norm(self.form, "ffn_norm", dtype)
        self.ffn_expand = token_dense(self.ffn_dim, "ffn_expand", dtype, self.form)
        self.ffn_project = token_dense(channels, "ffn_project", dtype, self.form)
        for layer in (
            self.attention_norm,
            self.query,
            self.key,
            self.value,
            self.output_dense,
            self.ffn_norm,
            self.ffn_expand,
        ):
            layer.build(input_shape)
        self.ffn_project.build(hidden_shape)
        if isinstance(self.act, keras.layers.Layer):
            self.act.build(hidden_shape)
        self.attention_drop = keras.layers.Dropout(self.attention_dropout, dtype=dtype)
        self.output_drop = keras.layers.Dropout(self.dropout, dtype=dtype)
        self.hidden_drop = keras.layers.Dropout(self.ffn_dropout, dtype=dtype)
        self.ffn_drop = keras.layers.Dropout(self.dropout, dtype=dtype)
        self.quantize_attention_input = quantizer(self.form, "attention_input_quantizer")
        self.quantize_query = quantizer(self.form, "query_quantizer")
        self.quantize_key = quantizer(self.form, "key_quantizer", is_symmetric=True)
        self.quantize_value = quantizer(self.form, "value_quantizer", is_symmetric=True)
        self.quantize_attended = quantizer(self.form, "attended_quantizer")
        self.quantize_output = quantizer(self.form, "output_quantizer")
        self.quantize_ffn_input = quantizer(self.form, "ffn_input_quantizer")
        self.quantize_ffn_output = quantizer(self.form, "ffn_output_quantizer")
        if self.form == QUANTIZED:
            for dense, grid in (
                (self.query, self.quantize_query),
                (self.key, self.quantize_key),
                (self.value, self.quantize_value),
                (self.output_dense, self.quantize_output),
                (self.ffn_expand, self.act.first_grid),
                (self.ffn_project, self.quantize_ffn_output),
            ):
                dense.answer_on(grid)

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

    def _attend(self, x, training):
        positions, num_tokens, channels = x.shape[1:]
        q, k, v = (
            self._split_heads(quantize(quantizer, dense(x)), num_tokens)
            for dense, quantizer in (
                (self.query, self.quantize_query),
                (self.key, self.quantize_key),
                (self.value, self.quantize_value),
            )
        )
        if self.form == TRAINING:
            q = q * (channels // self.num_heads) ** -0.5
        if self.form == QUANTIZED:
            # In int8 the probabilities of 256 tokens would share 256 values: most would be 0 or 1.
            v = v * FLOAT_AGAIN
        x = self._merge_heads(self._products(q, k, v, training), positions, num_tokens)
        x = self.output_dense(quantize(self.quantize_attended, x))
        return quantize(self.quantize_output, x)

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
        scores = ops.matmul(q, k)
        with warnings.catch_warnings():
            # At stage 5 of a 32-pixel image there is one token, rightly of probability 1.
            warnings.filterwarnings("ignore", message="You are using a softmax over axis")
            probabilities = ops.softmax(scores, axis=-1)
        return ops.matmul(self.attention_drop(probabilities, training=training), v)

    def call(self, inputs, training=None):
        x = quantize(self.quantize_attention_input, self.attention_norm(inputs))
        x = self._attend(x, training)
        x = inputs + self.output_drop(x, training=training)
        hidden = quantize(self.quantize_ffn_input, self.ffn_norm(x))
        hidden = self.act(self.ffn_expand(hidden))
        hidden = self.ffn_project(self.hidden_drop(hidden, training=training))
        hidden = quantize(self.quantize_ffn_output, hidden)
        return x + self.ffn_drop(hidden, training=training)

    def compute_output_shape(self, input_shape) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "ffn_dim": self.ffn_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "ffn_dropout": self.ffn_dropout,
            "activation": self.activation,
            "form": self.form,
        }
