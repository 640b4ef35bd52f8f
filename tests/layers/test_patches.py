import numpy as np
import pytest

from mobilevit_keras.layers import Fold, Unfold
from tests.layers.layer_check import check_layer


def reference_unfold(x, p):
    """The paper's rearrangement in one transpose of rank 6."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // p, p, w // p, p, c).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(b, p * p, h * w // (p * p), c)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_unfold(rng, p):
    x = rng.standard_normal((2, 12, 24, 3)).astype("float32")
    np.testing.assert_array_equal(Unfold(p)(x), reference_unfold(x, p))


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_fold_undoes_unfold(rng, p):
    x = rng.standard_normal((2, 12, 24, 3)).astype("float32")
    np.testing.assert_array_equal(Fold(p)(reference_unfold(x, p), height=12, width=24), x)


def test_layers():
    check_layer(Unfold(2), [(2, 8, 4, 3), (1, 6, 6, 3)])
    assert Fold(2).compute_output_shape((2, 4, 8, 3), height=4, width=8) == (2, 4, 8, 3)


def test_a_size_that_the_patch_does_not_divide():
    rule = r"`patch_size` must divide height and width. Received: patch_size=2, height=8, width=7."
    with pytest.raises(ValueError, match=rule):
        Unfold(2)(np.zeros((1, 8, 7, 3)))


def test_positions_that_are_no_patch():
    with pytest.raises(ValueError, match=r"Received: patch_size=2, shape=\(1, 9, 4, 3\)"):
        Fold(2)(np.zeros((1, 9, 4, 3)), height=6, width=6)
