import numpy as np
import pytest

from mobilevit_keras.export import CheckError
from mobilevit_keras.export.parity import Bound, check_parity, compare


def test_compare():
    first = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    second = np.array([[0.5, 0.4, 0.1], [0.2, 0.5, 0.3]])
    parity = compare(first, second)
    assert parity.images == 2
    assert parity.max_abs_difference == pytest.approx(0.2)
    assert parity.top1_agreement == 0.5


def test_compare_needs_one_shape():
    with pytest.raises(ValueError, match="one shape"):
        compare(np.zeros((2, 3)), np.zeros((2, 4)))


@pytest.mark.parametrize("difference", [0.2, np.nan])
def test_check_fails_above_the_bound_and_on_nan(difference):
    with pytest.raises(CheckError, match="within 0.1"):
        check_parity(compare(np.zeros((1, 1)), np.full((1, 1), difference)), Bound(0.1))
    check_parity(compare(np.zeros((1, 1)), np.full((1, 1), 0.05)), Bound(0.1))


def test_another_best_class_fails_unless_it_was_a_tie_or_the_only_one():
    expected = np.array([[0.6, 0.4], [0.502, 0.498], [0.9, 0.1]])
    tied = np.array([[0.4, 0.6], [0.4, 0.6], [0.9, 0.1]])
    other = np.array([[0.4, 0.6], [0.6, 0.4], [0.1, 0.9]])
    bound = Bound(0.9, min_agreement=0.995)
    check_parity(compare(expected, tied), bound)
    assert compare(expected, tied).top1_agreement == pytest.approx(1 / 3)
    with pytest.raises(CheckError, match="another on 2 of 3"):
        check_parity(compare(expected, other), bound)
