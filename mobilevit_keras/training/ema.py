"""The weights' exponential moving average, batch-norm statistics included."""

import contextlib
from collections.abc import Iterator

import keras


class ExponentialMovingAverage(keras.callbacks.Callback):
    """Averages every weight after every update and evaluates on the averages.

    Keras's own `use_ema` covers what the optimizer trains and so leaves out the batch norms' moving
    statistics; the published recipe averages them too. Validation during `fit` runs on the
    averages; the trained weights come back after it. When training ends, the model holds the
    averages.

    Args:
        decay: Weight of the old average, 0 to 1.
        updates_every: Batches for each update of the weights (gradient accumulation).

    Raises:
        ValueError: If `decay` is not between 0 and 1.
    """

    def __init__(self, decay: float = 0.9995, updates_every: int = 1) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must be from 0 up to, not including, 1. Received: {decay}.")
        self.decay = decay
        self.updates_every = updates_every
        self.averages: list = []
        self.num_batches = 0

    def set_model(self, model) -> None:
        super().set_model(model)
        if self.averages:
            return
        # Seeds of dropout are weights to Keras, but there is nothing to average in them.
        self.weights = [w for w in model.weights if "float" in w.dtype]
        self.averages = [
            keras.Variable(w.numpy(), trainable=False, dtype="float32", name="average")
            for w in self.weights
        ]
        self._update = self._compiled_update()

    def _compiled_update(self):
        def update() -> None:
            for average, weight in zip(self.averages, self.weights, strict=True):
                new = keras.ops.cast(weight, "float32")
                average.assign(average + (new - average) * (1.0 - self.decay))

        if keras.backend.backend() != "tensorflow":
            return update
        import tensorflow as tf

        # Several hundred small operations are a tenth of a step when run one by one.
        return tf.function(update)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.num_batches += 1
        if self.num_batches % self.updates_every == 0:
            self._update()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the averages into the model for the length of a `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for average, weight in zip(self.averages, self.weights, strict=True):
            value = weight.numpy()
            weight.assign(average)
            average.assign(value)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._swap()

    def on_test_end(self, logs: dict | None = None) -> None:
        self._swap()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._swap()
