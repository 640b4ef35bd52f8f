import numpy as np
import pytest

from mobilevit_keras.data import balanced_class_weights
from tests.masks import ColouredScenes, coloured_scene


def test_median_frequency_balancing():
    """Against the masks counted one by one; a frame without a class does not count."""
    own, whole = np.zeros(3), np.zeros(3)
    for index in range(10):
        _, mask = coloured_scene(index)
        assert (mask == 255).any()
        for number in range(3):
            if (mask == number).any():
                own[number] += (mask == number).sum()
                whole[number] += (mask != 255).sum()
    frequency = own / whole
    expected = np.median(frequency) / frequency
    found = balanced_class_weights(ColouredScenes(train=10))
    assert found == pytest.approx(expected) and found[0] < 1
    assert balanced_class_weights(ColouredScenes(train=10), 0.5) == pytest.approx(expected**0.5)


def test_a_class_that_occurs_nowhere_weighs_one(monkeypatch, capsys):
    source = ColouredScenes(train=4)
    source.class_names = (*source.class_names, "green")
    weights = balanced_class_weights(source, verbose=1)
    assert weights[3] == 1.0 and weights[:3] == balanced_class_weights(ColouredScenes(train=4))
    assert "4/4" in capsys.readouterr().out
