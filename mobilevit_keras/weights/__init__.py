"""Published weights: foreign checkpoints to Keras models and back, and presets by name."""

from mobilevit_keras.weights.porting import load_checkpoint, save_checkpoint
from mobilevit_keras.weights.presets import (
    FIGURES,
    PRESETS,
    Preset,
    download_preset,
    load_preset,
    load_weights_or_preset,
)
from mobilevit_keras.weights.published import imagenet_class_names

__all__ = [
    "FIGURES",
    "PRESETS",
    "Preset",
    "download_preset",
    "imagenet_class_names",
    "load_checkpoint",
    "load_preset",
    "load_weights_or_preset",
    "save_checkpoint",
]
