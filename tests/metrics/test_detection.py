"""The multibox loss against plain loops, and where there is nothing to find."""

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.metrics import MultiBoxLoss

B, A, K = 3, 40, 4


@pytest.fixture
def batch(rng):
    """Targets and outputs; the last image has no boxes."""
    labels = np.where(rng.random((B, A)) < 0.1, rng.integers(1, K + 1, (B, A)), 0)
    labels[0, :2], labels[2] = 3, 0
    boxes = rng.normal(size=(2, B, A, 4)).astype("f") * 2
    logits = rng.normal(size=(B, A, K + 1)).astype("f") * 3
    return {"boxes": boxes[0], "logits": labels}, {"boxes": boxes[1], "logits": logits}


def by_hand(targets, outputs, negatives):
    total = 0.0
    for image in range(B):
        labels, logits = targets["logits"][image], outputs["logits"][image].astype("float64")
        losses = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits
        positive = np.flatnonzero(labels)
        rest = sorted(np.flatnonzero(labels == 0), key=lambda a: -losses[a, 0])
        for a in [*positive, *rest[: negatives * len(positive)]]:
            total += losses[a, labels[a]]
        distance = np.abs(targets["boxes"][image] - outputs["boxes"][image])[positive]
        total += np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
    return total / max(1, (targets["logits"] > 0).sum())


@pytest.mark.parametrize("negatives", [3, 0, 1000])
def test_loss_of_plain_loops(batch, negatives):
    loss = MultiBoxLoss(negatives)
    assert float(loss(*batch)) == pytest.approx(by_hand(*batch, negatives), rel=1e-5)
    again = MultiBoxLoss.from_config(loss.get_config())
    assert again.negatives == negatives


def test_half_precision_is_summed_in_float32(batch):
    targets, outputs = batch
    half = {name: value.astype("float16") for name, value in outputs.items()}
    expected = float(MultiBoxLoss()(targets, {n: v.astype("f") for n, v in half.items()}))
    assert float(MultiBoxLoss()(targets, half)) == pytest.approx(expected, rel=1e-5)


def test_without_boxes_loss_and_gradients_are_finite(batch):
    targets, outputs = batch
    targets = {"boxes": np.full((B, A, 4), -np.inf, "f"), "logits": np.zeros((B, A), int)}
    outputs = {name: tf.constant(value) for name, value in outputs.items()}
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        loss = MultiBoxLoss()(targets, outputs)
    assert float(loss) == 0
    for gradient in tape.gradient(loss, outputs).values():
        assert gradient is None or np.isfinite(gradient).all()


def test_a_number_of_negatives():
    with pytest.raises(ValueError, match="`negatives` must be at least 0. Received: -1"):
        MultiBoxLoss(-1)
