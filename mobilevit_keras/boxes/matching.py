"""Which anchor answers for which box.

keras_cv's BoxMatcher gives an anchor that is the best of two boxes to the first one, where the
authors give it to the last, and rows that fill up a batch have it match an anchor, too.
"""

from keras import ops

BACKGROUND = 0
"""An anchor's label where it answers for no box; a box's class n is n + 1."""

PADDING = -1
"""The label of rows that only fill up an image's boxes to the number of another's."""

_EPSILON = 1e-5


def _area(boxes):
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def _overlaps(anchors, boxes):
    """Intersection over union `(B, A, N)` of corners `(A, 4)` and `(B, N, 4)`, as the authors' is:

    Of small boxes in sides of the image the epsilon takes several percent, which decides matches.
    """
    # -> (1, A, 1, 4) and (B, 1, N, 4)
    anchors, boxes = anchors[None, :, None], boxes[:, None]
    corners = [
        ops.maximum(anchors[..., :2], boxes[..., :2]),
        ops.minimum(anchors[..., 2:], boxes[..., 2:]),
    ]
    shared = _area(ops.concatenate(corners, axis=-1))
    return shared / (_area(anchors) + _area(boxes) - shared + _EPSILON)


def match_anchors(anchors, boxes, labels, iou_threshold: float = 0.5):
    """Gives each anchor the box that it overlaps most, and each box an anchor at least.

    An anchor that no box has for its best is background where it overlaps none by the threshold. Of
    boxes with one best anchor, the last has it.

    Args:
        anchors: `(A, 4)`, middle's x and y, width and height, in sides of the image.
        boxes: `(B, N, 4)`, left, top, right, bottom, in sides of the image.
        labels: `(B, N)`, classes from 0; `PADDING` for rows that are no boxes.
        iou_threshold: Intersection over union from which on an anchor answers for a box.

    Returns:
        The boxes `(B, A, 4)` and, as int32 `(B, A)`, their classes plus 1, or `BACKGROUND`.
    """
    anchors, boxes = ops.cast(anchors, "float32"), ops.cast(boxes, "float32")
    # One row more than there are, so that there is one: of no size, and no box.
    boxes = ops.pad(boxes, ((0, 0), (0, 1), (0, 0)))
    labels = ops.pad(ops.cast(labels, "int32"), ((0, 0), (0, 1)), constant_values=PADDING)
    is_box = labels != PADDING

    corners = [anchors[:, :2] - anchors[:, 2:] * 0.5, anchors[:, :2] + anchors[:, 2:] * 0.5]
    overlaps = _overlaps(ops.concatenate(corners, axis=-1), boxes)
    overlaps = ops.where(is_box[:, None], overlaps, -1.0)
    best_box = ops.cast(ops.argmax(overlaps, axis=2), "int32")
    best_overlap = ops.max(overlaps, axis=2)

    # -> (B, A, N): whether the anchor is the box's best.
    best_anchor = ops.cast(ops.argmax(overlaps, axis=1), "int32")
    number = ops.arange(ops.shape(anchors)[0], dtype="int32")
    is_best = (best_anchor[:, None] == number[None, :, None]) & is_box[:, None]
    # The last of an anchor's boxes, counted from 1.
    order = ops.arange(1, ops.shape(labels)[1] + 1, dtype="int32")
    last = ops.max(ops.where(is_best, order, 0), axis=2)
    index = ops.where(last > 0, last - 1, best_box)

    matched = ops.take_along_axis(boxes, index[..., None], axis=1)
    classes = ops.take_along_axis(labels, index, axis=1) + 1
    answers = (last > 0) | (best_overlap >= iou_threshold)
    return matched, ops.where(answers, classes, BACKGROUND)
