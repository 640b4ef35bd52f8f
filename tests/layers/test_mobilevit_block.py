import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers import MobileViTBlock
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"use_fusion": False},
        {"patch_size": 3},
        {"form": "deployment", "activation": "hard_swish"},
    ],
)
def test_layer(arguments):
    block = MobileViTBlock(16, 1, num_heads=2, dropout=0.0, **arguments)
    check_layer(block, [(2, 8, 6, 8), (2, 5, 7, 8)])


def test_an_image_the_patch_does_not_divide_is_resized_up_and_back(rng):
    block = MobileViTBlock(16, 1, num_heads=2, use_fusion=False)
    x = rng.standard_normal((1, 5, 7, 8)).astype("float32")
    y = block(x)
    local = block.local_1x1(block.local_3x3(x))
    tokens = block.unfold(tf.image.resize(local, (6, 8)))
    tokens = block.norm(block.transformers[0](tokens))
    expected = block.project(tf.image.resize(block.fold(tokens, height=6, width=8), (5, 7)))
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_unknown_sizes_give_what_known_ones_give(rng):
    block = MobileViTBlock(16, 1, num_heads=2)
    sizes = [(8, 6), (5, 7), (1, 1), (4, 4)]
    images = [rng.standard_normal((2, *size, 8)).astype("float32") for size in sizes]
    expected = [block(x) for x in images]
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 8))])
    def run(x):
        traces.append(x.shape)
        return block(x)

    for x, y in zip(images, expected, strict=True):
        np.testing.assert_allclose(run(x), y, atol=1e-5)
    assert len(traces) == 1


def test_no_tensor_has_more_than_four_dimensions():
    block = MobileViTBlock(16, 2, num_heads=2)
    block.build((1, 8, 8, 8))
    run = tf.function(lambda x: block(x), input_signature=[tf.TensorSpec((1, 8, 8, 8))])
    graph = run.get_concrete_function().graph
    ranks = [t.shape.rank or 0 for op in graph.get_operations() for t in op.outputs]
    assert max(ranks) == 4


def test_without_fusion_the_last_convolution_goes():
    def count(use_fusion):
        block = MobileViTBlock(16, 1, num_heads=2, use_fusion=use_fusion)
        block.build((None, None, None, 8))
        return sum(int(np.prod(w.shape)) for w in block.trainable_weights)

    assert count(True) - count(False) == 3 * 3 * 16 * 8 + 2 * 8


def test_serialization_by_keras():
    block = MobileViTBlock(16, 1, num_heads=2, name="block")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert twin.get_config() == block.get_config()
