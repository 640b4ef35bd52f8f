"""From a trained model to the forms that are deployed."""

from mobilevit_keras.quantization.fold import fold
from mobilevit_keras.quantization.qat import (
    calibrate,
    check_ranges,
    freeze_ranges,
    quantize_aware,
)

__all__ = ["calibrate", "check_ranges", "fold", "freeze_ranges", "quantize_aware"]
