"""MobileViT in Keras: layers, models, training, quantization, TFLite and TF.js."""

import sys
from pathlib import Path

from mobilevit_keras.version import __version__


def _is_command() -> bool:
    """Whether `python -m train` or `python -m convert` of this project is what runs.

    They import the rooms that a command needs when it runs: `--help` and the server of the browser
    application must not wait for TensorFlow.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is None:
        return False
    here = Path(__file__).resolve().parents[1]
    return Path(file).resolve() in (here / name / "__main__.py" for name in ("train", "convert"))


# Importing the package registers its classes, so that Keras opens files that hold them.
if not _is_command():
    from mobilevit_keras import (
        boxes,
        data,
        evaluation,
        export,
        inference,
        layers,
        metrics,
        models,
        quantization,
        tasks,
        training,
        weights,
    )
    from mobilevit_keras.export import export_tfjs, export_tflite
    from mobilevit_keras.inference import (
        detect_images,
        explain_images,
        predict_images,
        segment_images,
    )
    from mobilevit_keras.models import (
        MobileViTBackbone,
        MobileViTImageClassifier,
        MobileViTImageSegmenter,
        MobileViTObjectDetector,
        Preprocessing,
        VisionTask,
        freeze,
        load_model,
        replace_classifier,
    )
    from mobilevit_keras.quantization import quantize_aware
    from mobilevit_keras.weights import load_preset, load_weights_or_preset

__all__ = [
    "MobileViTBackbone",
    "MobileViTImageClassifier",
    "MobileViTImageSegmenter",
    "MobileViTObjectDetector",
    "Preprocessing",
    "VisionTask",
    "__version__",
    "boxes",
    "data",
    "detect_images",
    "evaluation",
    "explain_images",
    "export",
    "export_tfjs",
    "export_tflite",
    "freeze",
    "inference",
    "layers",
    "load_model",
    "load_preset",
    "load_weights_or_preset",
    "metrics",
    "models",
    "predict_images",
    "quantization",
    "quantize_aware",
    "replace_classifier",
    "segment_images",
    "tasks",
    "training",
    "weights",
]
