import numpy as np
import pytest

from mobilevit_keras.layers import TransformerLayer
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize("form", ["training", "deployment"])
def test_layer(form):
    layer = TransformerLayer(num_heads=2, ffn_dim=12, dropout=0.0, form=form)
    check_layer(layer, [(2, 4, 6, 8), (1, 4, 9, 8)])


def reference_layer(x, layer):
    """Pre-norm attention of each position of each image by itself, equation by equation."""
    weights = {w.path.split("/", 1)[-1]: w.numpy().astype("float64") for w in layer.weights}

    def norm(x, name):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(variance + 1e-5)
        return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def dense(x, name):
        return x @ weights[f"{name}/kernel"][0, 0] + weights[f"{name}/bias"]

    channels = x.shape[-1]
    head_dim = channels // layer.num_heads
    y = np.empty_like(x, "float64")
    for image in range(x.shape[0]):
        for position in range(x.shape[1]):
            tokens = norm(x[image, position].astype("float64"), "attention_norm")
            q, k, v = (dense(tokens, name) for name in ("query", "key", "value"))
            heads = []
            for head in range(layer.num_heads):
                part = slice(head * head_dim, (head + 1) * head_dim)
                scores = q[:, part] @ k[:, part].T / np.sqrt(head_dim)
                scores = np.exp(scores - scores.max(-1, keepdims=True))
                heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
            attended = x[image, position] + dense(np.concatenate(heads, -1), "output_dense")
            hidden = dense(norm(attended, "ffn_norm"), "ffn_expand")
            hidden = hidden / (1 + np.exp(-hidden))
            y[image, position] = attended + dense(hidden, "ffn_project")
    return y


def test_against_the_equations(rng):
    layer = TransformerLayer(num_heads=4, ffn_dim=24)
    x = rng.standard_normal((2, 4, 6, 16)).astype("float32")
    layer(x)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.5)
    np.testing.assert_allclose(layer(x), reference_layer(x, layer), atol=2e-5)


def test_a_position_attends_to_no_other(rng):
    layer = TransformerLayer(num_heads=2, ffn_dim=16)
    x = rng.standard_normal((1, 4, 6, 8)).astype("float32")
    changed = x.copy()
    changed[0, 1] += 1.0
    same = np.isclose(layer(x), layer(changed), atol=0).all((0, 2, 3))
    assert same.tolist() == [True, False, True, True]


def test_dropout_is_where_the_recipe_has_it(rng):
    x = rng.standard_normal((1, 1, 4, 8)).astype("float32")
    # Everything dropped leaves the input; attention and hidden dropout alone do not.
    dropped = TransformerLayer(2, 16, dropout=0.999999)
    np.testing.assert_allclose(dropped(x, training=True), x, atol=1e-6)
    kept = TransformerLayer(2, 16, dropout=0.0)
    np.testing.assert_array_equal(kept(x, training=True), kept(x, training=False))


def test_heads_that_do_not_divide_the_channels():
    with pytest.raises(ValueError, match="Received: num_heads=3, channels=8"):
        TransformerLayer(3, 16)(np.zeros((1, 4, 4, 8)))
