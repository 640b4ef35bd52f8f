"""From image files to class names."""

from mobilevit_keras.inference.predict_images import predict_images

__all__ = ["predict_images"]
