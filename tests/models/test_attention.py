"""The attention of each block, beside a computation in NumPy from the block's own weights."""

import keras
import numpy as np
import pytest

from mobilevit_keras.layers import PreNormLayer
from mobilevit_keras.layers.resize import resize_aligned
from tests.tiny import build_tiny, coloured_images, tell_images_apart
from tests.weights.numpy_reference import resize

SEPARABLE = {"attention": "separable", "num_heads": 1, "use_fusion": False}


def weights_of(layer):
    return {w.path.split("/")[-2] + "/" + w.name: w.numpy().astype("f8") for w in layer.weights}


def shares(scores):
    """Softmax over the last axis."""
    exponents = np.exp(scores - scores.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def dense(weights, x, name):
    return x @ weights[f"{name}/kernel"][0, 0] + weights[f"{name}/bias"]


def multi_head(layer, tokens):
    """Of one position's tokens `(N, C)`: what each receives of all queries and heads."""
    w, received = weights_of(layer), np.zeros(len(tokens))
    x = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
    x = x * w["attention_norm/gamma"] + w["attention_norm/beta"]
    q, k = dense(w, x, "query"), dense(w, x, "key")
    for head in np.split(np.arange(q.shape[-1]), layer.num_heads):
        for query in q[:, head]:
            received += shares(k[:, head] @ query / np.sqrt(len(head)))
    return received / (layer.num_heads * len(tokens))


def separable(layer, image):
    """Of all positions' tokens `(P, N, C)`, which are normalised as one: the context's scores."""
    w = weights_of(layer)
    x = (image - image.mean()) / np.sqrt(image.var() + 1e-5)
    x = x * w["attention_norm/gamma"] + w["attention_norm/beta"]
    return [shares(dense(w, position, "query")[:, 0]) for position in x]


def attention_of(block, features, is_separable):
    """The map of one image's features `(h, w, C)` in front of the transformers."""
    p = block.patch_size
    corners = [(top, left) for top in range(p) for left in range(p)]
    height, width = features.shape[:2]
    # (P, N, C): every p-th pixel of every p-th line.
    tokens = np.stack(
        [features[top::p, left::p].reshape(-1, features.shape[-1]) for top, left in corners]
    )
    found = np.zeros((height, width))
    for layer in block.transformers:
        of_positions = (
            separable(layer, tokens)
            if is_separable
            else [multi_head(layer, position) for position in tokens]
        )
        for (top, left), values in zip(corners, of_positions, strict=True):
            found[top::p, left::p] += values.reshape(height // p, width // p)
        # Its own tests look at that.
        tokens = np.asarray(layer(tokens[None])[0], "f8")
    return found / (len(block.transformers) * p * p)


@pytest.mark.parametrize("backbone", [{}, SEPARABLE], ids=["v1", "v2"])
# At 80 x 112 the last map of v1, 3 x 4, is resized before it is cut into patches.
@pytest.mark.parametrize("size", [(64, 96), (80, 112)])
def test_attention_is_that_of_the_equations(backbone, size):
    model = tell_images_apart(build_tiny(**backbone))
    for layer in model.backbone._flatten_layers():
        if isinstance(layer, PreNormLayer):
            # At initial weights all is attended to alike.
            layer.query.kernel.assign(10.0 * layer.query.kernel)
            layer.key.kernel.assign(10.0 * layer.key.kernel)
    images = coloured_images(2, *size) / 255.0
    found = model.backbone.attention(images)
    assert list(found) == ["P3", "P4", "P5"]
    for stage, (name, maps) in enumerate(found.items(), start=3):
        block = model.backbone.get_layer(f"stage{stage}_1")
        before = model.backbone.get_layer(f"stage{stage}_0").output
        inputs = keras.Model(model.backbone.inputs[0], before)(images)
        height, width = inputs.shape[1:3]
        sides = tuple(-(-side // 2) * 2 for side in (height, width))
        if backbone and sides != (height, width):
            # Before everything else.
            inputs = resize_aligned(inputs, *sides)
        features = np.asarray(block.local_1x1(block.local_3x3(inputs)), "f8")
        maps = np.asarray(maps)
        assert maps.shape == (2, *sides)
        np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1.0, atol=1e-5)
        for of_image, part in zip(maps, features, strict=True):
            part = np.moveaxis(resize(np.moveaxis(part, -1, 0), *sides), 0, -1)
            expected = attention_of(block, part, bool(backbone))
            np.testing.assert_allclose(of_image, expected, atol=1e-5 * expected.max() + 1e-7)
        # Not equal everywhere: there is something to be wrong about.
        assert maps.std() > 0.02 * maps.mean(), name


def test_looking_changes_nothing(rng):
    model = build_tiny()
    images = rng.uniform(size=(1, 64, 64, 3)).astype("float32")
    before = np.asarray(model(images))
    weights = [weight.numpy() for weight in model.weights]
    model.backbone.attention(images)
    model.with_heat_map(images)
    np.testing.assert_array_equal(model(images), before)
    for old, new in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_half_precision_rounds_no_share():
    model = build_tiny(dtype="mixed_float16")
    for maps in model.backbone.attention(coloured_images(1, 64) / 255.0).values():
        assert maps.dtype == "float32"
        assert np.asarray(maps).sum() == pytest.approx(1.0, abs=2e-3)
