"""The form of a detector's file that suppresses boxes itself."""

import numpy as np

from mobilevit_keras.boxes import BoxDecoding
from mobilevit_keras.export.flatbuffer_edits import add_suppression
from mobilevit_keras.tasks.detection_files import CATEGORY_NAME, IN_FILE_RULES, NUMBER_NAME
from mobilevit_keras.tasks.objects import LOCATION_NAME, SCORE_NAME


def with_suppression(content: bytes, decoding: BoxDecoding, num_classes: int) -> bytes:
    """Returns a file that gives boxes, classes, scores and their number.

    Args:
        content: A `.tflite` file that gives "location" and "score".
        decoding: How boxes are read from them.
        num_classes: Number of classes.
    """
    maximum = IN_FILE_RULES["maximum"]
    y_scale, x_scale, h_scale, w_scale = decoding.scales
    options = {
        "max_detections": maximum,
        "detections_per_class": maximum,
        "max_classes_per_detection": 1,
        # Each class by itself, as the paper does it.
        "use_regular_nms": True,
        "nms_score_threshold": IN_FILE_RULES["score_threshold"],
        "nms_iou_threshold": IN_FILE_RULES["iou_threshold"],
        "num_classes": num_classes,
        "y_scale": y_scale,
        "x_scale": x_scale,
        "h_scale": h_scale,
        "w_scale": w_scale,
    }
    outputs = [
        (LOCATION_NAME, (1, maximum, 4)),
        (CATEGORY_NAME, (1, maximum)),
        (SCORE_NAME, (1, maximum)),
        (NUMBER_NAME, (1,)),
    ]
    anchors = np.ascontiguousarray(decoding.anchors[:, (1, 0, 3, 2)])
    return add_suppression(content, (LOCATION_NAME, SCORE_NAME), anchors, options, outputs)
