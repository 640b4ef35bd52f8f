"""From a trained model to the forms that are deployed."""

from mobilevit_keras.quantization.fold import fold
from mobilevit_keras.quantization.qat import (
    calibrate,
    freeze_ranges,
    quantize_aware,
    settle_ranges,
)

__all__ = ["calibrate", "settle_ranges", "fold", "freeze_ranges", "quantize_aware"]
