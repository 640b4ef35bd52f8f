"""Short trainings of a small model on a pipeline of random batches."""

import keras
import numpy as np
import tensorflow as tf

from mobilevit_keras.data import EpochAdapter
from mobilevit_keras.models.steps import train_step_on


class RandomPipeline:
    """Batches that are a pure function of (epoch, step), like the package's own pipeline.

    Args:
        lengths: Steps of each epoch.
    """

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self.next_epoch = 0
        self.next_step = 0
        self.element_spec = (tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, 3)))

    def num_steps(self, epoch: int) -> int:
        return self.lengths[epoch]

    def dataset(self) -> tf.data.Dataset:
        def batches():
            for step in range(self.next_step, self.lengths[self.next_epoch]):
                rng = np.random.default_rng([self.next_epoch, step])
                size = int(rng.choice([2, 4]))
                x = rng.random((size, 8, 8, 3), "float32")
                yield x, np.eye(3, dtype="float32")[rng.integers(0, 3, size)]

        return tf.data.Dataset.from_generator(batches, output_signature=self.element_spec)


class SetEpoch(keras.callbacks.Callback):
    """Tells a pipeline the epoch, where no `Checkpoints` does."""

    def __init__(self, pipeline) -> None:
        super().__init__()
        self.pipeline = pipeline

    def on_epoch_begin(self, epoch, logs=None):
        self.pipeline.next_epoch = epoch


class Watch(keras.callbacks.Callback):
    """Keeps every step's loss and epoch's logs, and may do something after one of the steps."""

    def __init__(self, after_step=None, do=None) -> None:
        super().__init__()
        self.losses = []
        self.epoch_logs = []
        self.steps_of_epoch = []
        self.after_step, self.do = after_step, do

    def on_epoch_begin(self, epoch, logs=None):
        self.steps_of_epoch.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.steps_of_epoch[-1] += 1
        self.losses.append(float(logs["loss"]))
        if len(self.losses) == self.after_step:
            self.do()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch_logs.append(dict(logs))


@keras.saving.register_keras_serializable("tests")
class SmallModel(keras.Sequential):
    """Steps as the package's models do: not without a batch."""

    def train_step(self, *arguments):
        return train_step_on(super().train_step, *arguments)


def small_model(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """Convolution, batch norm and dropout: weights, statistics and random states to keep."""
    keras.utils.set_random_seed(0)
    model = SmallModel(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dropout(0.3, seed=1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def fit(model, pipeline, callbacks, epochs: int, initial_epoch: int = 0, **options):
    """Keras `fit` on the pipeline's epochs."""
    return model.fit(
        EpochAdapter(pipeline.dataset(), max(pipeline.lengths)),
        epochs=epochs,
        initial_epoch=initial_epoch,
        callbacks=callbacks,
        verbose=0,
        **options,
    )
