"""COCO's library against plain loops in NumPy, and cases whose answers are known."""

import numpy as np
import pytest

from mobilevit_keras.metrics import AveragePrecision
from mobilevit_keras.metrics.average_precision import IOU_THRESHOLDS, RECALLS

K = 3


def overlap(a, b) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    shared = sides.prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def random_image(rng):
    """Truths `(boxes, labels)`, and detections that lie about them, some of a wrong class."""
    corner = rng.uniform(0, 150, (6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 120, (6, 2))], -1)
    labels = rng.integers(0, K, 6)
    again = rng.integers(0, 6, 14)
    found = boxes[again] + rng.normal(0, 6, (14, 4))
    classes = np.where(rng.random(14) < 0.2, rng.integers(0, K, 14), labels[again])
    scores = np.sort(rng.uniform(size=14))[::-1]
    return boxes, labels, {"boxes": found, "labels": classes, "scores": scores}


def by_hand(images, label, threshold) -> float:
    """Average precision of a class: of all images' detections by score, each takes what is best."""
    rows, number = [], 0
    for boxes, labels, found in images:
        truths = list(boxes[labels == label])
        number += len(truths)
        own = found["labels"] == label
        for box, score in zip(found["boxes"][own], found["scores"][own], strict=True):
            overlaps = [overlap(box, truth) for truth in truths]
            right = bool(overlaps) and max(overlaps) >= threshold
            if right:
                truths.pop(int(np.argmax(overlaps)))
            rows.append((score, right))
    right = np.array([right for _, right in sorted(rows, key=lambda row: -row[0])])
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    recall = np.cumsum(right) / number
    points = [precision[recall >= point].max(initial=0.0) for point in RECALLS]
    return float(np.mean(points))


def test_against_plain_loops(rng):
    images = [random_image(rng) for _ in range(8)]
    measured = AveragePrecision(K)
    for boxes, labels, found in images:
        measured.update(found, boxes, labels)
    expected = np.array([[by_hand(images, label, t) for label in range(K)] for t in IOU_THRESHOLDS])
    assert 0.1 < expected.mean() < 0.9
    for label in range(K):
        assert measured.mean(label=label) == pytest.approx(expected[:, label].mean(), abs=1e-6)
    assert measured.mean() == pytest.approx(expected.mean(), abs=1e-6)
    assert measured.mean(0.5) == pytest.approx(expected[0].mean(), abs=1e-6)
    assert measured.mean(0.75) == pytest.approx(expected[5].mean(), abs=1e-6)
    # Another image counts too.
    measured.update(images[0][2], images[0][0] + 500, images[0][1])
    assert measured.mean() < expected.mean()


BOX = np.array([10.0, 10.0, 50.0, 50.0])
FAR = np.array([100.0, 100.0, 200.0, 200.0])
INSIDE = np.array([110.0, 110.0, 130.0, 130.0])


def measure(truths, found, **flags) -> AveragePrecision:
    """Of one image: what is there, and boxes by falling score."""
    measured = AveragePrecision(1)
    scores = np.linspace(0.9, 0.5, len(found)) if len(found) else np.zeros(0)
    answer = {
        "boxes": np.reshape(found, (-1, 4)),
        "labels": np.zeros(len(found), int),
        "scores": scores,
    }
    measured.update(
        answer,
        np.reshape(truths, (-1, 4)),
        np.zeros(len(truths), int),
        **{name: np.array(values) for name, values in flags.items()},
    )
    return measured


def test_a_wrong_box_that_is_surer_halves_the_precision():
    assert measure([BOX], [BOX]).mean() == pytest.approx(1.0)
    assert measure([BOX], [FAR, BOX]).mean() == pytest.approx(0.5)
    # Found twice is found once too often.
    assert measure([BOX], [BOX, BOX]).mean() == pytest.approx(1.0)
    assert measure([BOX, FAR], [BOX, BOX, FAR]).mean() == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_difficult_objects_and_crowds_are_passed_over():
    for name in ("difficult", "crowds"):
        measured = measure([BOX, FAR], [FAR, FAR, BOX], **{name: [False, True]})
        assert measured.mean() == pytest.approx(1.0)
        # And need not be found.
        assert measure([BOX, FAR], [BOX], **{name: [False, True]}).mean() == pytest.approx(1.0)
    # A part of a crowd is one, a part of a difficult object is none.
    assert measure([BOX, FAR], [INSIDE, BOX], crowds=[False, True]).mean() == pytest.approx(1.0)
    assert measure([BOX, FAR], [INSIDE, BOX], difficult=[False, True]).mean() == pytest.approx(0.5)


def test_by_size():
    measured = measure([INSIDE, FAR], [FAR])
    assert measured.mean(size="large") == pytest.approx(1.0)
    assert measured.mean(size="small") == 0.0
    assert np.isnan(measured.mean(size="medium"))


def test_nothing_there_or_nothing_found():
    assert np.isnan(AveragePrecision(2).mean())
    assert np.isnan(measure([], [BOX]).mean())
    assert measure([BOX], []).mean() == 0.0
