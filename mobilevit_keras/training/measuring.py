"""What of a validation no metric of Keras can tell."""

import keras
import tensorflow as tf

from mobilevit_keras.data import EvaluationDataset
from mobilevit_keras.data.geometry import crop_sides
from mobilevit_keras.tasks import Task


class MeasureValidation(keras.callbacks.Callback):
    """Adds the figures of a task's meter to each validation's logs: `val_` and their names.

    They are those of `mobilevit_keras.evaluation.evaluate`, of the averaged weights where an
    `ExponentialMovingAverage` comes before this in the list of callbacks. It costs a second pass
    over the validation images.

    Args:
        task: The task.
        model: The model.
        validation: The validation images as `fit` has them.
    """

    def __init__(self, task: Task, model: keras.Model, validation: EvaluationDataset) -> None:
        super().__init__()
        self.task = task = task.for_size(model, crop_sides(validation.crop_size))
        source = validation.source
        self.dataset = EvaluationDataset(
            source,
            validation.split,
            crop_size=validation.crop_size,
            short_side=validation.short_side,
            interpolation=validation.interpolation,
            resize=validation.resize,
            batch_size=validation.images_per_batch,
            whole_targets=task.whole_targets,
            prepare=task.prepare_evaluation(source),
        )
        # The last batch may be shorter; one trace is for both.
        self._answer = tf.function(
            lambda images: task.serve(model(images, training=False)), reduce_retracing=True
        )

    def measure(self) -> dict[str, float]:
        """The figures of the model as it is now."""
        meter = self.task.meter(self.dataset.source.class_names)
        for images, targets in self.dataset:
            outputs = {name: values.numpy() for name, values in self._answer(images).items()}
            meter.update(outputs, tf.nest.map_structure(lambda tensor: tensor.numpy(), targets))
        return meter.result()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if "val_loss" in logs:
            logs.update({f"val_{name}": value for name, value in self.measure().items()})
