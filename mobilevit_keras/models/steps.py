"""What keeps Keras's `fit` from a step without a batch."""

from collections.abc import Callable

import keras


def train_step_on(step: Callable, *arguments):
    """Calls Keras's `train_step` so that nothing of it happens where there is no batch.

    At the end of an epoch whose length Keras does not know, `fit` calls the step once more to see
    that the data are at their end. On the TensorFlow backend all of it that does not depend on the
    batch is done then: weight decay, the optimizer's count of updates, the seeds of dropout.

    Args:
        step: The `train_step`.
        *arguments: Its arguments; on TensorFlow the batch.
    """
    if keras.backend.backend() != "tensorflow":
        return step(*arguments)
    import tensorflow as tf

    # A batch comes as a whole, so that its first tensor tells of all; each more would add as many
    # edges as the step has nodes.
    given = tf.nest.flatten(arguments)[:1]
    with tf.control_dependencies(given):
        return step(*arguments)
