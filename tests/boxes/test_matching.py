"""Against the authors' loop, on boxes that compete for anchors, rows of padding and none at all."""

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.boxes import match_anchors, ssd_anchors

ANCHORS = np.asarray(ssd_anchors([(4, 5), (1, 1)], aspect_ratios=((2, 3), (2,))))


def by_hand(anchors, boxes, labels, threshold=0.5):
    """One image's matched boxes and labels; `labels` from 0."""
    corners = np.concatenate(
        [anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], -1
    )
    overlap = np.zeros((len(anchors), len(boxes)))
    for a, anchor in enumerate(corners):
        for n, box in enumerate(boxes):
            sides = np.maximum(np.minimum(anchor[2:], box[2:]) - np.maximum(anchor[:2], box[:2]), 0)
            shared = sides.prod()
            union = (anchor[2:] - anchor[:2]).prod() + (box[2:] - box[:2]).prod() - shared
            overlap[a, n] = shared / (union + 1e-5)
    best = overlap.argmax(1)
    sure = overlap.max(1)
    for n, a in enumerate(overlap.argmax(0)):
        best[a] = n
        sure[a] = 2
    return boxes[best], np.where(sure < threshold, 0, labels[best] + 1)


def random_boxes(rng, number: int) -> np.ndarray:
    corner = rng.uniform(0, 0.7, (number, 2))
    return np.concatenate([corner, corner + rng.uniform(0.1, 0.5, (number, 2))], -1).astype("f")


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_matches_of_the_authors_loop(rng, threshold):
    boxes, labels = random_boxes(rng, 12).reshape(2, 6, 4), rng.integers(0, 80, (2, 6))
    matched, classes = match_anchors(ANCHORS, boxes, labels, threshold)
    for image in range(2):
        expected = by_hand(ANCHORS, boxes[image], labels[image], threshold)
        np.testing.assert_array_equal(matched[image], expected[0])
        np.testing.assert_array_equal(classes[image], expected[1])
    assert classes.dtype == "int32"


def test_of_boxes_with_one_best_anchor_the_last_has_it():
    box = np.concatenate([ANCHORS[7, :2] - 0.05, ANCHORS[7, :2] + 0.05])
    boxes = np.stack([box, box * 1.001])[None]
    matched, classes = match_anchors(ANCHORS, boxes, [[3, 8]])
    best = np.flatnonzero(classes[0])
    assert 9 in np.asarray(classes)[0]
    expected = by_hand(ANCHORS, boxes[0].astype("f"), np.array([3, 8]))
    np.testing.assert_array_equal(classes[0], expected[1])
    np.testing.assert_array_equal(np.asarray(matched)[0, best], expected[0][best])


def test_a_small_box_has_an_anchor_whatever_its_overlap():
    boxes = np.array([[[0.31, 0.31, 0.32, 0.32]]], "float32")
    _, classes = match_anchors(ANCHORS, boxes, [[0]])
    assert np.sum(classes) == 1


def test_padding_changes_nothing(rng):
    boxes, labels = random_boxes(rng, 4)[None], np.array([[5, 0, 7, 1]])
    expected = match_anchors(ANCHORS, boxes, labels)
    for filling in (0.0, -1.0, np.nan):
        padded = np.concatenate([boxes, np.full((1, 3, 4), filling, "f")], 1)
        found = match_anchors(ANCHORS, padded, np.pad(labels, ((0, 0), (0, 3)), constant_values=-1))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("number", [0, 2])
def test_no_boxes_are_all_background(number):
    boxes, labels = np.zeros((3, number, 4), "f"), np.full((3, number), -1)
    matched, classes = match_anchors(ANCHORS, boxes, labels)
    assert classes.shape == (3, len(ANCHORS)) and not np.any(classes)
    assert np.isfinite(matched).all()


def test_in_a_graph_of_unknown_sizes(rng):
    @tf.function(
        input_signature=[tf.TensorSpec((None, 4)), tf.TensorSpec((None, None, 4)),
                         tf.TensorSpec((None, None), "int64")]
    )  # fmt: skip
    def run(anchors, boxes, labels):
        return match_anchors(anchors, boxes, labels)

    boxes, labels = random_boxes(rng, 6).reshape(2, 3, 4), np.array([[1, 2, 3], [0, 4, -1]])
    for ours, theirs in zip(
        run(ANCHORS, boxes, labels), match_anchors(ANCHORS, boxes, labels), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
