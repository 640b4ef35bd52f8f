"""Training a model to answer what a trained one answers."""

from keras import Model, ops


def distill_from(
    teacher: Model, model: Model, weight: float = 0.5, temperature: float = 1.0
) -> None:
    """Mixes the teacher's answers into the loss of `model`'s training; evaluation keeps its own.

    Everything else about `fit`, checkpoints and saved files is as before.

    Args:
        teacher: Gives logits `(B, K)` for the same images. It is not trained.
        model: The model to train, compiled with a loss on logits.
        weight: Share of the teacher in the loss, the labels' is the rest.
        temperature: What both models' logits are divided by.

    Raises:
        ValueError: If `weight` is not within 0 and 1 or `temperature` not positive.

    Reference: [Distilling the knowledge in a neural network](https://arxiv.org/abs/1503.02531).
    """
    if not 0 <= weight <= 1 or temperature <= 0:
        raise ValueError(
            "`weight` must be from 0 to 1 and `temperature` positive. "
            f"Received: weight={weight}, temperature={temperature}."
        )
    loss_of_labels = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = loss_of_labels(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )
        if not training:
            return loss
        target = ops.stop_gradient(ops.softmax(teacher(x, training=False) / temperature))
        answer = ops.log_softmax(ops.cast(y_pred, "float32") / temperature)
        # The square keeps the gradients' size independent of the temperature.
        distance = -(temperature**2) * ops.mean(ops.sum(target * answer, axis=-1))
        return (1.0 - weight) * loss + weight * distance

    # A method of this one object: a subclass would change what saved files hold.
    model.compute_loss = compute_loss
