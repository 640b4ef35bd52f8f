"""Of boxes that lie on each other, only the surest stays."""

import numpy as np

MAXIMUM = 200
"""The most boxes that stay: of each class or, where all classes are taken together, of all."""

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
    # It takes seconds, which nobody should wait for who does not detect.
    import keras_cv

    scores = np.asarray(scores, "float32")
    arguments = {
        "bounding_box_format": "xyxy",
        "from_logits": False,
        "iou_threshold": iou_threshold,
        "confidence_threshold": score_threshold,
    }
    if per_class:
        suppression = keras_cv.layers.MultiClassNonMaxSuppression(
            max_detections=min(maximum, scores.shape[1]) * scores.shape[2],
            max_detections_per_class=maximum,
            **arguments,
        )
    else:
        suppression = keras_cv.layers.NonMaxSuppression(max_detections=maximum, **arguments)
    found = {
        name: np.asarray(values)
        for name, values in suppression(np.asarray(boxes, "float32"), scores).items()
    }
    return [
        {
            "boxes": found["boxes"][image, :number],
            "labels": found["classes"][image, :number].astype("int32"),
            "scores": found["confidence"][image, :number],
        }
        for image, number in enumerate(found["num_detections"])
    ]
