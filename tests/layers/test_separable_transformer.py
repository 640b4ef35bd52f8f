import numpy as np
import pytest

from mobilevit_keras.layers import SeparableTransformerLayer
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize("form", ["training", "deployment"])
def test_layer(form):
    check_layer(SeparableTransformerLayer(12, form=form), [(2, 4, 6, 8), (1, 4, 9, 8)])


def reference_layer(x, layer):
    """The paper's equations, with explicit sums over the tokens of each position."""
    weights = {w.path.split("/", 1)[-1]: w.numpy().astype("float64") for w in layer.weights}

    def norm(x, name):
        scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def dense(x, name):
        return x @ weights[f"{name}/kernel"][0, 0] + weights[f"{name}/bias"]

    def layer_of(image):
        tokens = norm(image, "attention_norm")
        q, k, v = (dense(tokens, name) for name in ("query", "key", "value"))
        attended = np.empty_like(v)
        for position in range(len(image)):
            scores = np.exp(q[position, :, 0])
            context = sum(s * key for s, key in zip(scores, k[position], strict=True))
            attended[position] = np.maximum(v[position], 0) * context / scores.sum()
        image = image + dense(attended, "output_dense")
        hidden = dense(norm(image, "ffn_norm"), "ffn_expand")
        return image + dense(hidden / (1 + np.exp(-hidden)), "ffn_project")

    return np.stack([layer_of(image) for image in x.astype("float64")])


def test_against_the_equations(rng):
    layer = SeparableTransformerLayer(24)
    x = rng.standard_normal((2, 4, 6, 16)).astype("float32")
    layer(x)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.5)
    np.testing.assert_allclose(layer(x), reference_layer(x, layer), atol=2e-5)


def test_the_order_of_the_tokens_does_not_matter(rng):
    layer = SeparableTransformerLayer(16)
    x = rng.standard_normal((1, 4, 6, 8)).astype("float32")
    order = rng.permutation(6)
    np.testing.assert_allclose(layer(x[:, :, order]), np.asarray(layer(x))[:, :, order], atol=1e-5)


def test_it_starts_as_its_authors_do():
    """He-normal by the fan out; query, key and value are rows of one convolution to them."""
    layer = SeparableTransformerLayer(256)
    layer.build((None, 4, None, 128))
    for name, fan_out in (("query", 257), ("key", 257), ("output_dense", 128), ("ffn_expand", 256)):
        deviation = np.std(getattr(layer, name).kernel)
        np.testing.assert_allclose(deviation, (2.0 / fan_out) ** 0.5, rtol=0.3)


def test_dropout(rng):
    x = rng.standard_normal((1, 1, 4, 8)).astype("float32")
    dropped = SeparableTransformerLayer(16, dropout=0.999999)
    np.testing.assert_allclose(dropped(x, training=True), x, atol=1e-6)
    kept = SeparableTransformerLayer(16)
    np.testing.assert_array_equal(kept(x, training=True), kept(x, training=False))
