"""From trained models to files for TFLite and TF.js, each run and compared before it is left."""

from mobilevit_keras.export.tfjs import export_tfjs
from mobilevit_keras.export.tfjs_runner import prepare_tfjs_runtime, run_tfjs
from mobilevit_keras.export.tflite import export_tflite
from mobilevit_keras.export.tflite_runner import run_tflite
from mobilevit_keras.tasks import CheckError

__all__ = [
    "CheckError",
    "export_tfjs",
    "export_tflite",
    "prepare_tfjs_runtime",
    "run_tfjs",
    "run_tflite",
]
