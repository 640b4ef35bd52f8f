import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers import MobileViTV2Block
from mobilevit_keras.layers.resize import resize_aligned
from tests.layers.layer_check import check_layer


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"dilation_rate": 2},
        {"patch_size": 3},
        {"form": "deployment", "activation": "hard_swish"},
    ],
)
def test_layer(arguments):
    check_layer(MobileViTV2Block(16, 1, **arguments), [(2, 8, 6, 8), (2, 5, 7, 8)])


def test_an_image_the_patch_does_not_divide_is_resized_up_first_and_never_back(rng):
    block = MobileViTV2Block(16, 1)
    x = rng.standard_normal((1, 5, 7, 8)).astype("float32")
    expected = block(resize_aligned(x, 6, 8))
    assert expected.shape == block.compute_output_shape(x.shape) == (1, 6, 8, 8)
    np.testing.assert_allclose(block(x), expected, atol=1e-6)


def test_its_parts_in_their_order(rng):
    block = MobileViTV2Block(16, 2)
    x = rng.standard_normal((1, 4, 6, 8)).astype("float32")
    y = block(x)
    tokens = block.unfold(block.local_1x1(block.local_3x3(x)))
    for transformer in block.transformers:
        tokens = transformer(tokens)
    expected = block.project(block.fold(block.norm(tokens), height=4, width=6))
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert block.local_3x3.filters is None and block.local_3x3.activation == "silu"
    assert block.local_1x1.norm is None and block.project.activation is None


def test_unknown_sizes_give_what_known_ones_give(rng):
    block = MobileViTV2Block(16, 1)
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
    block = MobileViTV2Block(16, 2)
    block.build((1, 7, 8, 8))
    run = tf.function(lambda x: block(x), input_signature=[tf.TensorSpec((1, 7, 8, 8))])
    graph = run.get_concrete_function().graph
    ranks = [t.shape.rank or 0 for op in graph.get_operations() for t in op.outputs]
    assert max(ranks) == 4


def test_serialization_by_keras():
    block = MobileViTV2Block(16, 1, name="block")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert twin.get_config() == block.get_config()
