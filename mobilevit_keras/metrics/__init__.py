"""Losses and metrics that Keras lacks."""

from mobilevit_keras.metrics.classification import CrossEntropy, TopAccuracy
from mobilevit_keras.metrics.detection import MultiBoxLoss
from mobilevit_keras.metrics.segmentation import MeanIoU, PixelAccuracy, PixelCrossEntropy

__all__ = [
    "CrossEntropy",
    "MeanIoU",
    "MultiBoxLoss",
    "PixelAccuracy",
    "PixelCrossEntropy",
    "TopAccuracy",
]
