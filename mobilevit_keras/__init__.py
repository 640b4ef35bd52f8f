"""MobileViT in Keras: layers, models, training, quantization, TFLite and TF.js."""

import importlib

__version__ = "0.1.0"

# Keras and TensorFlow take seconds to import, which `--help` should not wait for.
_EXPORTS = {
    "MobileViTBackbone": "mobilevit_keras.models",
    "MobileViTImageClassifier": "mobilevit_keras.models",
    "Preprocessing": "mobilevit_keras.models",
    "load_preset": "mobilevit_keras.weights",
    "load_weights_or_preset": "mobilevit_keras.weights",
    "predict_images": "mobilevit_keras.inference",
}

__all__ = [
    "MobileViTBackbone",
    "MobileViTImageClassifier",
    "Preprocessing",
    "__version__",
    "load_preset",
    "load_weights_or_preset",
    "predict_images",
]


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
