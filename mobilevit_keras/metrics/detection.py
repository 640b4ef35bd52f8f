"""Loss of detection: boxes and classes of a few thousand anchors, most of them background."""

import keras
from keras import ops

from mobilevit_keras.metrics.replicas import mean_over_replicas


@keras.saving.register_keras_serializable("mobilevit_keras")
class MultiBoxLoss(keras.losses.Loss):
    """SSD's loss: where the boxes are, and what they are, beside the hardest of the background.

    The sum of smooth L1 over anchors that answer for a box, plus the sum of cross-entropy over
    these and, of each image, the surest mistakes among the rest; divided by the batch's number of
    anchors that answer for a box; 0 where there is none.

    Outputs: {"boxes": `(B, A, 4)` encoded, "logits": `(B, A, K + 1)`, background first}.
    Targets, by the names of the outputs that they are for, as Keras wants them: {"boxes":
    `(B, A, 4)` encoded, "logits": `(B, A)`, classes from 1, 0 for background}.

    Args:
        negatives: Anchors of background that count, for each that answers for a box.

    Raises:
        ValueError: If `negatives` is negative.

    Reference: [SSD](https://arxiv.org/abs/1512.02325), section 2.2.
    """

    def __init__(self, negatives: int = 3, name: str = "multi_box_loss", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        if negatives < 0:
            raise ValueError(f"`negatives` must be at least 0. Received: {negatives}.")
        self.negatives = negatives

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true["logits"], "int32")
        answers = labels > 0
        losses = -ops.log_softmax(ops.cast(y_pred["logits"], "float32"), axis=-1)
        selected = answers | self._hard(ops.stop_gradient(losses[..., 0]), answers)
        # Of the anchors' own classes. (B, A, K + 1) -> (B, A)
        losses = ops.sum(losses * ops.one_hot(labels, losses.shape[-1]), axis=-1)
        classification = ops.sum(ops.where(selected, losses, 0.0), axis=1)

        # Background may have any target, infinite ones too, whose gradients would be no numbers.
        targets = ops.where(answers[..., None], ops.cast(y_true["boxes"], "float32"), 0.0)
        distance = ops.abs(ops.cast(y_pred["boxes"], "float32") - targets)
        smooth = ops.where(distance < 1.0, 0.5 * ops.square(distance), distance - 0.5)
        localisation = ops.sum(ops.where(answers[..., None], smooth, 0.0), axis=(1, 2))

        # Of each image: Keras takes the mean, and among replicas its share.
        losses = localisation + classification
        if self.reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight"):
            boxes = mean_over_replicas(ops.sum(ops.cast(answers, "float32")))
            losses *= ops.divide_no_nan(ops.cast(ops.size(losses), "float32"), boxes)
        return losses

    def _hard(self, losses, answers):
        """Of each image, the anchors of background that are least like it. `(B, A)`, booleans."""
        number = self.negatives * ops.sum(ops.cast(answers, "int32"), axis=1, keepdims=True)
        # Those that answer for a box come last; a loss is never negative.
        order = ops.argsort(-ops.where(answers, -1.0, losses), axis=1)
        rank = ops.argsort(order, axis=1)
        return (ops.cast(rank, "int32") < number) & ~answers

    def get_config(self) -> dict:
        return {**super().get_config(), "negatives": self.negatives}
