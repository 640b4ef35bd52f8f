"""From image files to class names, boxes and masks, and to where they come from."""

from mobilevit_keras.inference.detect_images import (
    DetectedImage,
    detect_images,
    iterate_detected,
)
from mobilevit_keras.inference.explain_images import (
    ExplainedImage,
    explain_images,
    iterate_explained,
)
from mobilevit_keras.inference.predict_images import iterate_predictions, predict_images
from mobilevit_keras.inference.segment_images import (
    SegmentedImage,
    iterate_segmented,
    segment_images,
)

__all__ = [
    "DetectedImage",
    "ExplainedImage",
    "SegmentedImage",
    "detect_images",
    "explain_images",
    "iterate_detected",
    "iterate_explained",
    "iterate_predictions",
    "iterate_segmented",
    "predict_images",
    "segment_images",
]
