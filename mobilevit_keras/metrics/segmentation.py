"""Loss and metrics of segmentation: logits of low resolution beside masks of the image's own.

Masks are class numbers `(B, H, W)` or `(B, H, W, 1)`, logits `(B, h, w, K)`; the logits are
enlarged bilinearly to the masks' size.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from mobilevit_keras.layers.resize import resize_bilinear
from mobilevit_keras.metrics.replicas import mean_over_replicas

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


def _classes(logits):
    """Number of the largest of the logits `(…, K)`, int32 `(…)`; of equal ones the lower number.

    Keras's `argmax` looks for negative zeros first, which takes thrice the time of the rest.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.argmax(logits, axis=-1)
    import tensorflow as tf

    return tf.argmax(logits, axis=-1, output_type="int32")


def class_masks(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """The class of every pixel of images: whose logit is the largest, enlarged to their size.

    Computed class by class, so that a photograph of many millions of pixels needs a few times its
    own memory, however many classes there are.

    Args:
        logits: `(B, h, w, K)`; they cover the whole of the images, whatever their aspect.
        height: Height of the masks.
        width: Width of the masks.

    Returns:
        int32 `(B, height, width)`. Of equal logits the lower class's number.

    Example:
    >>> class_masks(np.array([[[[2.0, 0.0], [0.0, 1.0]]]]), 1, 4)
    array([[[0, 0, 1, 1]]], dtype=int32)
    """
    logits = np.asarray(logits, np.float32)
    rows, columns = _between(logits.shape[1], height), _between(logits.shape[2], width)
    masks = np.zeros((len(logits), height, width), np.int32)
    for image, mask in zip(logits, masks, strict=True):
        best = _enlarged(image[..., 0], rows, columns)
        for number in range(1, image.shape[-1]):
            values = _enlarged(image[..., number], rows, columns)
            is_larger = values > best
            np.copyto(best, values, where=is_larger)
            mask[is_larger] = number
    return masks


def _between(length: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `target` half-pixel centres: the two samples beside it, and the part between."""
    scale = np.float32(length) / np.float32(target)
    centres = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(centres)
    lower = np.maximum(floor, 0).astype(np.int64)
    upper = np.minimum(np.ceil(centres), length - 1).astype(np.int64)
    return lower, upper, centres - floor


def _enlarged(plane: np.ndarray, rows: tuple, columns: tuple) -> np.ndarray:
    """`resize_bilinear` of one plane `(h, w)`, operation for operation."""
    left, right, part = columns
    wide = plane[:, left] + (plane[:, right] - plane[:, left]) * part
    top, bottom, part = rows
    return wide[top] + (wide[bottom] - wide[top]) * part[:, None]


@keras.saving.register_keras_serializable("mobilevit_keras")
class PixelCrossEntropy(keras.losses.Loss):
    """Cross-entropy of every pixel that has a class; 0 where none has one.

    With class weights it is the weighted mean, the sum of weight times loss over the sum of the
    weights, as PyTorch's `cross_entropy(weight=…, ignore_index=…)` has it.

    Args:
        class_weights: How much a pixel of each class counts; all alike by default.
        ignore_class: The number in a mask of pixels that do not count.

    Raises:
        ValueError: If a weight is negative, no number, or all are 0.
    """

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        ignore_class: int = IGNORED,
        name: str = "pixel_cross_entropy",
        **kwargs,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if class_weights is not None:
            class_weights = tuple(float(weight) for weight in class_weights)
            if not all(0 <= weight < float("inf") for weight in class_weights) or not any(
                class_weights
            ):
                raise ValueError(
                    "`class_weights` must be numbers of at least 0, one of them positive. "
                    f"Received: {class_weights}."
                )
        self.class_weights = class_weights
        self.ignore_class = ignore_class

    def call(self, y_true, y_pred):
        masks, logits = _beside_masks(y_true, y_pred)
        masks = ops.cast(masks, "int32")
        counts = ops.not_equal(masks, self.ignore_class)
        classes = ops.where(counts, masks, 0)
        losses = ops.sparse_categorical_crossentropy(classes, logits, from_logits=True)
        weights = ops.cast(counts, losses.dtype)
        if self.class_weights is not None:
            self._check(logits.shape[-1])
            weights *= ops.take(ops.convert_to_tensor(self.class_weights, losses.dtype), classes)
        if self.reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight"):
            # Keras divides by the number of pixels, whatever they weigh.
            number = ops.cast(ops.size(weights), losses.dtype)
            weights *= ops.divide_no_nan(number, mean_over_replicas(ops.sum(weights)))
        return losses * weights

    def _check(self, num_classes: int) -> None:
        if len(self.class_weights) != num_classes:
            raise ValueError(
                f"`class_weights` must hold one weight for each of {num_classes} classes. "
                f"Received: {len(self.class_weights)}."
            )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "class_weights": self.class_weights,
            "ignore_class": self.ignore_class,
        }


@keras.saving.register_keras_serializable("mobilevit_keras")
class MeanIoU(keras.metrics.MeanIoU):
    """Keras's mean intersection over union, of logits that are enlarged to the masks.

    Pixels of a number that is no class's do not count. The counts are added up here, in half the
    time of Keras's own, which is noticed in each step of a training.

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
        if sample_weight is not None:
            raise ValueError("`MeanIoU` counts pixels, all alike. Received: `sample_weight`.")
        masks, logits = _beside_masks(y_true, y_pred)
        masks, number = ops.cast(masks, "int32"), self.num_classes
        is_class = ops.logical_and(masks >= 0, masks < number)
        counts = ops.logical_and(is_class, ops.not_equal(masks, self.ignore_class))
        pairs = ops.where(counts, masks * number + _classes(logits), 0)
        counts = ops.cast(counts, self.dtype)
        sums = ops.segment_sum(ops.ravel(counts), ops.ravel(pairs), num_segments=number**2)
        self.total_cm.assign_add(ops.reshape(sums, (number, number)))

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
        right = ops.cast(ops.equal(_classes(logits), masks), self.dtype)
        counts = ops.cast(ops.not_equal(masks, self.ignore_class), self.dtype)
        # Of each image first: Keras's mean of all pixels takes thrice the time.
        numbers = ops.sum(counts, axis=(1, 2))
        shares = ops.divide_no_nan(ops.sum(right * counts, axis=(1, 2)), numbers)
        if sample_weight is not None:
            numbers *= ops.reshape(ops.cast(sample_weight, self.dtype), (-1,))
        return super().update_state(shares, sample_weight=numbers)

    def get_config(self) -> dict:
        return {**super().get_config(), "ignore_class": self.ignore_class}
