"""Against plain NumPy: masks with pixels that do not count, logits of a lower resolution."""

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.metrics import MeanIoU, PixelAccuracy, PixelCrossEntropy, class_masks

K = 4


@pytest.fixture
def masks(rng) -> np.ndarray:
    masks = rng.integers(0, K, (3, 12, 20)).astype("uint8")
    masks[0, :5] = 255
    masks[1, :, 3:9] = 255
    return masks


@pytest.fixture
def logits(rng) -> np.ndarray:
    return rng.normal(size=(3, 3, 5, K)).astype("float32") * 3


def enlarged(logits) -> np.ndarray:
    return tf.image.resize(logits, (12, 20), method="bilinear").numpy().astype("float64")


def test_cross_entropy_is_the_mean_over_the_pixels_that_count(masks, logits):
    x = enlarged(logits)
    x = x - np.log(np.exp(x).sum(-1, keepdims=True))
    counts = masks != 255
    picked = np.take_along_axis(x, np.where(counts, masks, 0)[..., None].astype(int), -1)[..., 0]
    expected = -picked[counts].mean()
    loss = PixelCrossEntropy()
    assert float(loss(masks, logits)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(masks[..., None], logits)) == pytest.approx(expected, rel=1e-5)
    other = np.where(counts, masks, 9)
    assert float(PixelCrossEntropy(ignore_class=9)(other, logits)) == pytest.approx(expected)
    assert PixelCrossEntropy.from_config(loss.get_config()).get_config() == loss.get_config()


def test_cross_entropy_of_no_pixel_is_nothing_and_has_gradients(masks, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = PixelCrossEntropy()(np.full_like(masks, 255), logits)
    assert float(loss) == 0
    assert np.abs(tape.gradient(loss, logits)).max() == 0


def test_mean_iou_of_several_batches(masks, logits):
    # A class that is neither in a mask nor in an answer does not count.
    masks[masks == 3], logits[..., 3] = 1, -99
    metric = MeanIoU(K)
    for i in range(3):
        metric.update_state(masks[i : i + 1], logits[i : i + 1])
    answers, counts = enlarged(logits).argmax(-1), masks != 255
    expected = []
    for k in range(3):
        both = ((masks == k) & (answers == k)).sum()
        either = (((masks == k) | (answers == k)) & counts).sum()
        expected.append(both / either)
    assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-5)
    assert metric.name == "mean_iou"
    twin = MeanIoU.from_config(metric.get_config())
    twin.update_state(masks[..., None], logits)
    assert float(twin.result()) == pytest.approx(float(metric.result()), rel=1e-6)


def test_mean_iou_has_no_weights(masks, logits):
    with pytest.raises(ValueError, match="all alike"):
        MeanIoU(K).update_state(masks, logits, sample_weight=np.ones(3))


def test_numbers_below_zero_are_no_class(masks, logits):
    some, all_of_them = MeanIoU(K), MeanIoU(K)
    some.update_state(np.where(masks == 255, -2, masks.astype(int)), logits)
    all_of_them.update_state(masks, logits)
    np.testing.assert_array_equal(some.total_cm, all_of_them.total_cm)


def test_mean_iou_without_one_of_the_classes(masks, logits):
    metric = MeanIoU(K, ignore_class=0)
    metric.update_state(masks, logits)
    counts = (masks != 0) & (masks != 255)
    answers, expected = enlarged(logits).argmax(-1), [0.0]
    for k in range(1, K):
        either = ((masks == k) | (answers == k)) & counts
        expected.append(((masks == k) & (answers == k)).sum() / either.sum())
    assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-5)


def test_pixel_accuracy(masks, logits):
    metric = PixelAccuracy()
    for i in range(3):
        metric.update_state(masks[i : i + 1], logits[i : i + 1])
    counts = masks != 255
    expected = (enlarged(logits).argmax(-1) == masks)[counts].mean()
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
    assert metric.name == "pixel_accuracy"
    weighted = PixelAccuracy.from_config(metric.get_config())
    weighted.update_state(masks, logits, sample_weight=np.array([0.0, 1.0, 0.0]))
    expected = (enlarged(logits).argmax(-1) == masks)[1][counts[1]].mean()
    assert float(weighted.result()) == pytest.approx(expected, rel=1e-5)


class TestClassWeights:
    """The weighted mean, as PyTorch's `cross_entropy(weight=, ignore_index=)` has it."""

    WEIGHTS = (1.0, 0.25, 3.0, 0.0)

    def expected(self, masks, logits):
        x = enlarged(logits)
        x = x - np.log(np.exp(x).sum(-1, keepdims=True))
        total, weight = 0.0, 0.0
        for index in zip(*np.nonzero(masks != 255), strict=True):
            of_class = self.WEIGHTS[masks[index]]
            total -= of_class * x[index][masks[index]]
            weight += of_class
        return total / weight

    def test_in_closed_form(self, masks, logits):
        loss = PixelCrossEntropy(self.WEIGHTS)
        assert float(loss(masks, logits)) == pytest.approx(self.expected(masks, logits), rel=1e-5)
        twin = PixelCrossEntropy.from_config(loss.get_config())
        assert twin.class_weights == self.WEIGHTS
        # Weights of 1 are none.
        assert float(PixelCrossEntropy([1] * K)(masks, logits)) == pytest.approx(
            float(PixelCrossEntropy()(masks, logits)), rel=1e-6
        )

    def test_of_no_weight_at_all_it_is_nothing(self, masks, logits):
        only = np.where(masks == 255, masks, 3)
        assert float(PixelCrossEntropy(self.WEIGHTS)(only, logits)) == 0

    def test_sums_and_single_losses(self, masks, logits):
        single = PixelCrossEntropy(self.WEIGHTS, reduction="none")(masks, logits).numpy()
        assert single.shape == masks.shape
        total = float(PixelCrossEntropy(self.WEIGHTS, reduction="sum")(masks, logits))
        assert total == pytest.approx(single.sum(), rel=1e-5)
        counts = masks != 255
        weights = np.where(counts, np.take(self.WEIGHTS, np.where(counts, masks, 0)), 0.0)
        assert total / weights.sum() == pytest.approx(self.expected(masks, logits), rel=1e-5)

    @pytest.mark.parametrize("weights", [(1, -1), (0, 0), (1, float("nan")), (1, float("inf"))])
    def test_no_weights(self, weights):
        with pytest.raises(ValueError, match="numbers of at least 0, one of them positive"):
            PixelCrossEntropy(weights)

    def test_another_number_of_classes(self, masks, logits):
        with pytest.raises(ValueError, match="one weight for each of 4 classes. Received: 2"):
            PixelCrossEntropy((1.0, 2.0))(masks, logits)


class TestClassMasks:
    @pytest.mark.parametrize("size", [(12, 20), (3, 5), (2, 3), (7, 64), (1, 1)])
    def test_are_those_of_the_enlarged_logits(self, logits, size):
        found = class_masks(logits, *size)
        assert found.dtype == np.int32 and found.shape == (3, *size)
        expected = tf.image.resize(logits, size, method="bilinear").numpy().argmax(-1)
        np.testing.assert_array_equal(found, expected)
        assert len(np.unique(class_masks(logits, 12, 20))) == K

    def test_a_tie_goes_to_the_lower_class(self):
        assert (class_masks(np.zeros((1, 2, 2, 3)), 4, 4) == 0).all()
