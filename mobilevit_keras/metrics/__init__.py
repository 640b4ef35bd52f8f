"""Losses and metrics that Keras lacks."""

from mobilevit_keras.metrics.average_precision import AveragePrecision
from mobilevit_keras.metrics.classification import CrossEntropy, TopAccuracy
from mobilevit_keras.metrics.confusion import confusion_matrix, intersection_over_union
from mobilevit_keras.metrics.detection import MultiBoxLoss
from mobilevit_keras.metrics.segmentation import (
    IGNORED,
    MeanIoU,
    PixelAccuracy,
    PixelCrossEntropy,
    class_masks,
)

__all__ = [
    "IGNORED",
    "AveragePrecision",
    "CrossEntropy",
    "MeanIoU",
    "MultiBoxLoss",
    "PixelAccuracy",
    "PixelCrossEntropy",
    "TopAccuracy",
    "class_masks",
    "confusion_matrix",
    "intersection_over_union",
]
