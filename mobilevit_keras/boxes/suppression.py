"""Of boxes that lie on each other, only the surest stays.

In NumPy: keras_cv's layers give the same answers, a test holds the two to each other, but for one
image of 3,232 anchors and 80 classes they take 5 ms (16 of all classes together) where this takes 2
(1), and their import takes seconds: too long for a frame of a video.
"""

import numpy as np

MAXIMUM = 200
"""The most boxes that stay: of each class or, where all classes are taken together, of all."""

# Boxes that are compared with each other at once: few enough that most of an image's fit, and that
# thousands of unsure ones do not fill the memory.
_BLOCK = 256

_SMALLEST_AREA = 1e-12

RULES = {"paper": {}, "mediapipe": {"per_class": False, "iou_threshold": 0.3}}
"""What `suppress` is given for the rules of the paper and for those of MediaPipe's detector."""


def suppress(
    boxes,
    scores,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    per_class: bool = True,
    maximum: int = MAXIMUM,
) -> list[dict[str, np.ndarray]]:
    """Non-maximum suppression: the boxes that stay of each image, the surest first.

    Args:
        boxes: `(B, A, 4)`, left, top, right, bottom.
        scores: `(B, A, K)`, of the classes, background left out.
        score_threshold: What a score must be above.
        iou_threshold: Intersection over union above which the less sure box goes.
        per_class: Whether each class is taken by itself, as the paper does; else every box counts
            for its surest class only, and goes for a box of any, as MediaPipe does.
        maximum: The most boxes that stay, of each class or in all.

    Returns:
        For each image "boxes" `(N, 4)`, "labels" `(N,)`, classes from 0, and "scores" `(N,)`.
    """
    boxes, scores = np.asarray(boxes, "float32"), np.asarray(scores, "float32")
    found = []
    for of_image, by_class in zip(boxes, scores, strict=True):
        if per_class:
            anchors, labels = np.nonzero(by_class > score_threshold)
        else:
            labels = by_class.argmax(axis=1)
            anchors = np.flatnonzero(by_class[np.arange(len(labels)), labels] > score_threshold)
            labels = labels[anchors]
        sureness = by_class[anchors, labels]
        # Of equal scores the first box's.
        order = np.argsort(-sureness, kind="stable")
        anchors, labels, sureness = anchors[order], labels[order], sureness[order]
        stays = np.zeros(len(labels), bool)
        for group in np.unique(labels) if per_class else (None,):
            own = np.arange(len(labels)) if group is None else np.flatnonzero(labels == group)
            stays[own[_surest(of_image[anchors[own]], iou_threshold, maximum)]] = True
        found.append(
            {
                "boxes": of_image[anchors[stays]],
                "labels": labels[stays].astype("int32"),
                "scores": sureness[stays],
            }
        )
    return found


def _surest(boxes: np.ndarray, iou_threshold: float, maximum: int) -> list[int]:
    """Indices of the boxes that stay, `(N, 4)` in the order of their scores."""
    kept: list[int] = []
    for start in range(0, len(boxes), _BLOCK):
        block = boxes[start : start + _BLOCK]
        goes = (overlaps(block, boxes[kept]) > iou_threshold).any(axis=1)
        lies_on = overlaps(block, block) > iou_threshold
        for index in range(len(block)):
            if len(kept) >= maximum:
                return kept
            if not goes[index]:
                kept.append(start + index)
                goes |= lies_on[index]
    return kept


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union `(N, M)` of boxes `(N, 4)` and `(M, 4)`; 0 of boxes without area."""
    # -> (N, 1) and (1, M), coordinate by coordinate
    left, top, right, bottom = np.moveaxis(boxes[:, None], -1, 0)
    others_left, others_top, others_right, others_bottom = np.moveaxis(others[None], -1, 0)
    width = np.minimum(right, others_right) - np.maximum(left, others_left)
    height = np.minimum(bottom, others_bottom) - np.maximum(top, others_top)
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    areas = (right - left) * (bottom - top)
    others_areas = (others_right - others_left) * (others_bottom - others_top)
    return shared / np.maximum(areas + others_areas - shared, _SMALLEST_AREA)
