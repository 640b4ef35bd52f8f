"""Loss and metrics of segmentation: logits of low resolution beside masks of the image's own.

Masks are class numbers `(B, H, W)` or `(B, H, W, 1)`, logits `(B, h, w, K)`; the logits are
enlarged bilinearly to the masks' size.
"""

import keras
from keras import ops

from mobilevit_keras.layers.resize import resize_bilinear

IGNORED = 255
"""The number in a mask that says that a pixel is of no class and does not count."""


def _beside_masks(masks, logits):
    """Masks `(B, H, W)` and the logits `(B, H, W, K)` of their pixels, in float32."""
    masks = ops.convert_to_tensor(masks)
    if len(masks.shape) == len(logits.shape):
        # (B, H, W, 1) -> (B, H, W)
        masks = ops.squeeze(masks, axis=-1)
    height, width = ops.shape(masks)[1:3]
    return masks, resize_bilinear(ops.cast(logits, "float32"), height, width)


@keras.saving.register_keras_serializable("mobilevit_keras")
class PixelCrossEntropy(keras.losses.Loss):
    """Cross-entropy of every pixel that has a class; 0 where none has one.

    Args:
        ignore_class: The number in a mask of pixels that do not count.
    """

    def __init__(
        self, ignore_class: int = IGNORED, name: str = "pixel_cross_entropy", **kwargs
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.ignore_class = ignore_class

    def call(self, y_true, y_pred):
        masks, logits = _beside_masks(y_true, y_pred)
        # Keras's own leaves a mask on its answer, by which the mean is over the pixels that count.
        return keras.losses.sparse_categorical_crossentropy(
            ops.cast(masks, "int32"), logits, from_logits=True, ignore_class=self.ignore_class
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "ignore_class": self.ignore_class}


@keras.saving.register_keras_serializable("mobilevit_keras")
class MeanIoU(keras.metrics.MeanIoU):
    """Keras's mean intersection over union, of logits that are enlarged to the masks.

    Args:
        num_classes: Number of classes K.
        ignore_class: The number in a mask of pixels that do not count.
    """

    def __init__(
        self, num_classes: int, ignore_class: int = IGNORED, name: str = "mean_iou", **kwargs
    ) -> None:
        super().__init__(
            num_classes, name=name, ignore_class=ignore_class, sparse_y_pred=False, **kwargs
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        masks, logits = _beside_masks(y_true, y_pred)
        return super().update_state(masks, logits, sample_weight)

    def get_config(self) -> dict:
        config = super().get_config()
        # What this class decides by itself.
        for name in ("sparse_y_true", "sparse_y_pred", "axis"):
            config.pop(name, None)
        return config


@keras.saving.register_keras_serializable("mobilevit_keras")
class PixelAccuracy(keras.metrics.Mean):
    """Share of the pixels with a class that got theirs.

    Args:
        ignore_class: The number in a mask of pixels that do not count.
    """

    def __init__(self, ignore_class: int = IGNORED, name: str = "pixel_accuracy", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.ignore_class = ignore_class

    def update_state(self, y_true, y_pred, sample_weight=None):
        masks, logits = _beside_masks(y_true, y_pred)
        masks = ops.cast(masks, "int32")
        right = ops.cast(ops.equal(ops.argmax(logits, axis=-1), masks), self.dtype)
        counts = ops.cast(ops.not_equal(masks, self.ignore_class), self.dtype)
        if sample_weight is not None:
            # (B,) -> (B, 1, 1)
            counts = counts * ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1, 1))
        return super().update_state(right, sample_weight=counts)

    def get_config(self) -> dict:
        return {**super().get_config(), "ignore_class": self.ignore_class}
