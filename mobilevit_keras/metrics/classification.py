"""Cross-entropy and accuracy for labels as numbers and as probabilities."""

import keras
from keras import ops


def _is_sparse(labels, outputs) -> bool:
    """Whether labels are class numbers: `(…)`, or `(…, 1)`, beside outputs `(…, K)`."""
    return len(labels.shape) < len(outputs.shape) or (
        labels.shape[-1] == 1 and outputs.shape[-1] != 1
    )


@keras.saving.register_keras_serializable("mobilevit_keras")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits, for labels `(B,)` and for probabilities `(B, K)` alike.

    Args:
        label_smoothing: Probability that is spread over all classes, from 0 up to 1.

    Raises:
        ValueError: If `label_smoothing` is out of its range.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                "`label_smoothing` must be from 0 up to, not including, 1. "
                f"Received: {label_smoothing}."
            )
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        if _is_sparse(y_true, y_pred):
            labels = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
            if not self.label_smoothing:
                return keras.losses.sparse_categorical_crossentropy(
                    labels, y_pred, from_logits=True
                )
            y_true = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            y_true, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("mobilevit_keras")
class TopAccuracy(keras.metrics.Mean):
    """Share of the images whose class is among the `k` largest outputs.

    Takes labels `(B,)` and probabilities `(B, K)` alike; of mixed labels the largest part counts.

    Args:
        k: How many outputs may hold the class.
        name: "top" and `k` by default.
    """

    def __init__(self, k: int = 1, name: str | None = None, **kwargs) -> None:
        super().__init__(name=f"top{k}" if name is None else name, **kwargs)
        self.k = k

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not _is_sparse(y_true, y_pred):
            y_true = ops.argmax(y_true, axis=-1)
        labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        outputs = ops.reshape(y_pred, (-1, y_pred.shape[-1]))
        if self.k == 1:
            values = ops.cast(ops.equal(ops.argmax(outputs, axis=-1), labels), self.dtype)
        else:
            values = ops.cast(
                ops.in_top_k(labels, outputs, k=min(self.k, y_pred.shape[-1])), self.dtype
            )
        return super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> dict:
        return {**super().get_config(), "k": self.k}
