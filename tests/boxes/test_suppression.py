"""Against a plain loop over boxes sorted by score."""

import numpy as np
import pytest

from mobilevit_keras.boxes import suppress


def overlap(a, b) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    shared = sides.prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def by_hand(boxes, scores, score_threshold, iou_threshold, maximum) -> list[int]:
    """Indices that stay of one class, the surest first."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] > score_threshold and len(kept) < maximum:
            if all(overlap(boxes[i], boxes[j]) <= iou_threshold for j in kept):
                kept.append(i)
    return kept


@pytest.fixture
def answers(rng):
    corner = rng.uniform(0, 0.5, (2, 60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.5, (2, 60, 2))], -1)
    return boxes.astype("f"), rng.uniform(size=(2, 60, 3)).astype("f")


@pytest.mark.parametrize("maximum", [4, 200])
def test_each_class_by_itself(answers, maximum):
    boxes, scores = answers
    found = suppress(boxes, scores, 0.3, 0.45, maximum=maximum)
    for image in range(2):
        assert np.all(np.diff(found[image]["scores"]) <= 0)
        total = 0
        for k in range(3):
            kept = by_hand(boxes[image], scores[image, :, k], 0.3, 0.45, maximum)
            own = found[image]["labels"] == k
            np.testing.assert_array_equal(found[image]["scores"][own], scores[image, kept, k])
            np.testing.assert_allclose(found[image]["boxes"][own], boxes[image, kept], atol=1e-6)
            total += len(kept)
        assert len(found[image]["labels"]) == total > 0


def test_all_classes_together(answers):
    boxes, scores = answers
    found = suppress(boxes, scores, 0.2, 0.3, per_class=False, maximum=9)
    for image in range(2):
        kept = by_hand(boxes[image], scores[image].max(-1), 0.2, 0.3, 9)
        np.testing.assert_array_equal(found[image]["scores"], scores[image, kept].max(-1))
        np.testing.assert_array_equal(found[image]["labels"], scores[image, kept].argmax(-1))
        np.testing.assert_allclose(found[image]["boxes"], boxes[image, kept], atol=1e-6)


@pytest.mark.parametrize("per_class", [True, False])
def test_nothing_found(answers, per_class):
    boxes, scores = answers
    for answer in suppress(boxes, scores * 0.01, per_class=per_class):
        assert answer["boxes"].shape == (0, 4)
        assert answer["labels"].shape == answer["scores"].shape == (0,)


@pytest.mark.parametrize("per_class", [True, False])
def test_the_answers_are_those_of_keras_cv(answers, per_class):
    import keras_cv

    boxes, scores = answers
    common = {
        "bounding_box_format": "xyxy",
        "from_logits": False,
        "iou_threshold": 0.4,
        "confidence_threshold": 0.1,
    }
    if per_class:
        theirs = keras_cv.layers.MultiClassNonMaxSuppression(
            max_detections=180, max_detections_per_class=60, **common
        )
    else:
        theirs = keras_cv.layers.NonMaxSuppression(max_detections=60, **common)
    expected = {name: np.asarray(values) for name, values in theirs(boxes, scores).items()}
    found = suppress(boxes, scores, 0.1, 0.4, per_class)
    for image, number in enumerate(expected["num_detections"]):
        assert number == len(found[image]["labels"]) > 5
        for name, key in (("boxes", "boxes"), ("labels", "classes"), ("scores", "confidence")):
            np.testing.assert_allclose(found[image][name], expected[key][image, :number], atol=1e-6)


def test_more_boxes_than_are_compared_at_once(rng):
    corner = rng.uniform(0, 0.9, (1, 900, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.02, 0.2, (1, 900, 2))], -1)
    boxes, scores = boxes.astype("f"), rng.uniform(size=(1, 900, 1)).astype("f")
    (found,) = suppress(boxes, scores, 0.0, 0.3)
    kept = by_hand(boxes[0], scores[0, :, 0], 0.0, 0.3, 200)
    assert len(kept) == 200 and kept[-1] != 199
    np.testing.assert_array_equal(found["scores"], scores[0, kept, 0])
    np.testing.assert_array_equal(found["boxes"], boxes[0, kept])
