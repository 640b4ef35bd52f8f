"""Against Keras's own losses and metrics, for labels of both forms."""

import keras
import numpy as np
import pytest

from mobilevit_keras.metrics import CrossEntropy, TopAccuracy


@pytest.fixture
def answers(rng):
    """Labels `(B,)` of 300 classes, their one-hot form and logits `(B, K)`."""
    labels = rng.integers(0, 300, 64)
    labels[:2] = 299, 257
    return labels, np.eye(300, dtype="float32")[labels], rng.normal(size=(64, 300)).astype("f")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(answers, smoothing):
    labels, one_hot, logits = answers
    loss = CrossEntropy(smoothing)
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    np.testing.assert_array_equal(loss(one_hot, logits), expected(one_hot, logits))
    np.testing.assert_allclose(loss(labels, logits), expected(one_hot, logits), rtol=1e-6)
    np.testing.assert_array_equal(loss(labels, logits), loss(labels[:, None], logits))
    if not smoothing:
        sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        np.testing.assert_array_equal(loss(labels, logits), sparse(labels, logits))
    again = CrossEntropy.from_config(loss.get_config())
    np.testing.assert_array_equal(again(labels, logits), loss(labels, logits))


@pytest.mark.parametrize("k", [1, 5])
def test_top_accuracy(answers, k):
    labels, one_hot, logits = answers
    logits[np.arange(0, 64, 2), labels[::2]] += 3.0
    expected = keras.metrics.TopKCategoricalAccuracy(k)
    expected.update_state(one_hot, logits)
    for form in (labels, labels[:, None], one_hot):
        metric = TopAccuracy(k)
        metric.update_state(form, logits)
        assert float(metric.result()) == float(expected.result())
        assert 0.2 < float(metric.result()) < 0.9
    assert metric.name == f"top{k}"


def test_top_5_of_three_classes():
    metric = TopAccuracy(5)
    metric.update_state(np.array([0, 2]), np.array([[0.1, 0.2, 0.3], [3.0, 2.0, 1.0]], "float32"))
    assert float(metric.result()) == 1.0


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match=f"`label_smoothing` must be .* Received: {smoothing}."):
        CrossEntropy(smoothing)
