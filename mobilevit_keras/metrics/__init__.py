"""Losses and metrics that Keras lacks: those that take labels in every form they come in."""

from mobilevit_keras.metrics.classification import CrossEntropy, TopAccuracy

__all__ = ["CrossEntropy", "TopAccuracy"]
