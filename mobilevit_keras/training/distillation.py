"""Training a model to answer what a trained one answers."""

from keras import Model

from mobilevit_keras.tasks import Task


def distill_from(
    task: Task, teacher: Model, model: Model, weight: float = 0.5, temperature: float = 1.0
) -> None:
    """Mixes the teacher's answers into the loss of `model`'s training; evaluation keeps its own.

    Everything else about `fit`, checkpoints and saved files is as before.

    Args:
        task: What both models are for; says how far answers lie from each other.
        teacher: Answers to the same images. It is not trained.
        model: The model to train, compiled.
        weight: Share of the teacher in the loss, the targets' is the rest.
        temperature: What both models' outputs are divided by.

    Raises:
        ValueError: If `weight` is not within 0 and 1 or `temperature` not positive.

    Reference: [Distilling the knowledge in a neural network](https://arxiv.org/abs/1503.02531).
    """
    if not 0 <= weight <= 1 or temperature <= 0:
        raise ValueError(
            "`weight` must be from 0 to 1 and `temperature` positive. "
            f"Received: weight={weight}, temperature={temperature}."
        )
    loss_of_targets = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = loss_of_targets(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
        )
        if not training:
            return loss
        distance = task.distance(teacher(x, training=False), y_pred, temperature)
        return (1.0 - weight) * loss + weight * distance

    # A method of this one object: a subclass would change what saved files hold.
    model.compute_loss = compute_loss
