"""From image files to class names."""

from mobilevit_keras.inference.predict_images import iterate_predictions, predict_images

__all__ = ["iterate_predictions", "predict_images"]
