import warnings

import keras
from keras import ops

from mobilevit_keras.layers.fake_quant import quantize, quantizer
from mobilevit_keras.layers.forms import QUANTIZED, TRAINING, check_form
from mobilevit_keras.layers.quantized_layers import activation_layer


def softmax_over_tokens(scores):
    """Probabilities over the last axis, the tokens."""
    with warnings.catch_warnings():
        # At stage 5 of a 32-pixel image there is one token, rightly of probability 1.
        warnings.filterwarnings("ignore", message="You are using a softmax over axis")
        return ops.softmax(scores, axis=-1)


def attention_map(tokens, transformers, fold, height, width):
    """How much attention each pixel of a map receives that was unfolded for transformers.

    The mean over the layers and over the sequences, of which each pixel is in one.

    Args:
        tokens: `(B, P, N, C)`, what the first layer is called with.
        transformers: The layers, one after another.
        fold: The `Fold` that puts the tokens back in their places.
        height, width: Size of the map.

    Returns:
        float32 `(B, height, width)`; the sum of an image's is 1.
    """
    shares = []
    for transformer in transformers:
        shares.append(transformer.attention(tokens))
        tokens = transformer(tokens, training=False)
    # L x (B, P, N) -> (B, P, N, L) -> (B, height, width, L); not by the layer's own call, which
    # would round the shares where it computes in half precision.
    maps = fold.call(ops.stack(shares, axis=-1), height=height, width=width)
    return ops.mean(maps, axis=-1) / fold.patch_size**2


class PreNormLayer(keras.layers.Layer):
    """What the transformer layers of both generations are; how tokens attend is the subclass's.

    x + Dropout(Output(Attention(Norm(x)))), then x + Dropout(Dense(Dropout(act(Dense(Norm(x)))))).
    There is no positional encoding: what a token's place means is left to the convolutions around.

    Args:
        ffn_dim: Hidden channels of the feed-forward part.
        dropout: Rate after the attention's output projection and after the feed-forward part.
        attention_dropout: Rate on the attention's probabilities.
        ffn_dropout: Rate after the feed-forward part's activation.
        activation: Activation inside the feed-forward part.
        form: "training", or a form with folded norms and attention scale. In "quantized" the dense
            layers are fake-quantized; the sums, the norms, softmax and the products stay float.

    Input shape: `(B, P, N, C)`
    Output shape: `(B, P, N, C)`
    """

    # Whether keys and values are on grids with zero in the middle, as int8 matrix products want.
    symmetric_grids = True

    def __init__(
        self,
        ffn_dim: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        activation: str = "silu",
        form: str = TRAINING,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.ffn_dim = ffn_dim
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.ffn_dropout = ffn_dropout
        self.activation = activation
        self.form = check_form(form)
        self.act = activation_layer(form, activation)

    @property
    def query_scale(self) -> float:
        """What the queries are multiplied by, in forms that have it in their kernel."""
        return 1.0

    def make_norm(self, name: str) -> keras.layers.Layer:
        """The norm before attention or feed-forward part."""
        raise NotImplementedError

    def make_dense(self, units: int, name: str, channels: int) -> keras.layers.Conv2D:
        """A dense layer over tokens of C channels."""
        raise NotImplementedError

    def attend(self, x, training):
        """What the tokens `(B, P, N, C)` make of each other, before the output projection."""
        raise NotImplementedError

    def received(self, x):
        """How much attention the tokens `(B, P, N, C)` that `attend` takes receive, `(B, P, N)`."""
        raise NotImplementedError

    def query_dim(self, channels: int) -> int:
        """Channels of the queries."""
        raise NotImplementedError

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        dtype = self.dtype_policy
        hidden_shape = (*input_shape[:-1], self.ffn_dim)
        self.attention_norm = self.make_norm("attention_norm")
        self.query = self.make_dense(self.query_dim(channels), "query", channels)
        self.key = self.make_dense(channels, "key", channels)
        self.value = self.make_dense(channels, "value", channels)
        self.output_dense = self.make_dense(channels, "output_dense", channels)
        self.ffn_norm = self.make_norm("ffn_norm")
        self.ffn_expand = self.make_dense(self.ffn_dim, "ffn_expand", channels)
        self.ffn_project = self.make_dense(channels, "ffn_project", channels)
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
        symmetric = {"is_symmetric": self.symmetric_grids}
        self.quantize_key = quantizer(self.form, "key_quantizer", **symmetric)
        self.quantize_value = quantizer(self.form, "value_quantizer", **symmetric)
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

    def attention(self, inputs):
        """How much attention each token receives from those of its sequence.

        Args:
            inputs: `(B, P, N, C)`, what the layer is called with.

        Returns:
            float32 `(B, P, N)`; the N shares of a sequence sum to 1.
        """
        x = quantize(self.quantize_attention_input, self.attention_norm(inputs))
        return self.received(x)

    def call(self, inputs, training=None):
        x = quantize(self.quantize_attention_input, self.attention_norm(inputs))
        x = self.output_dense(quantize(self.quantize_attended, self.attend(x, training)))
        x = quantize(self.quantize_output, x)
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
            "ffn_dim": self.ffn_dim,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "ffn_dropout": self.ffn_dropout,
            "activation": self.activation,
            "form": self.form,
        }
