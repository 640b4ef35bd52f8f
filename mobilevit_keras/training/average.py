"""The weights' exponential moving average, batch-norm statistics included."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from mobilevit_keras.training.recipe import Recipe


class ExponentialMovingAverage(keras.callbacks.Callback):
    """Averages every weight after every update and evaluates on the averages.

    The `t`-th update weighs the old average with `min(decay, (1 + t) / (10 + t))`, as TensorFlow's
    average does: it reaches back over a ninth of the updates so far until `decay` is reached, and
    so leaves the initial weights behind in a training of a hundred updates as in one of a million.

    Keras's own `use_ema` covers what the optimizer trains and so leaves out the batch norms' moving
    statistics; the published recipe averages them too.

    The model holds the averages during validation, from an epoch's end to the next one's begin, and
    when training has ended: callbacks that come after this one, such as `ModelCheckpoint`, save the
    weights that were validated. While it trains it holds the trained weights, also in a second
    `fit`, which goes on with both. Weights that were set between two `fit`s begin a new average.

    Args:
        decay: Weight of the old average, 0 to 1, once the training is long enough for it.

    Attributes:
        averages: The averages, float32 variables; made when `fit` begins.
        num_batches: Training batches so far; with gradient accumulation several make an update.

    Raises:
        ValueError: If `decay` is not between 0 and 1.
    """

    def __init__(self, decay: float = Recipe.ema_decay) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must be from 0 up to, not including, 1. Received: {decay}.")
        self.decay = decay
        self.averages: list[keras.Variable] = []
        self.num_batches = 0
        self._batches_of_update = 1
        # What the model's weights are while the averages stand in their place.
        self._trained: list[np.ndarray] | None = None
        self._averaged_model: keras.Model | None = None

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if self._averaged_model is not model:
            self._averaged_model = model
            self._begin()

    def _begin(self) -> None:
        # Seeds of dropout are weights to Keras, but there is nothing to average in them.
        self.weights = [w for w in self.model.weights if "float" in w.dtype]
        self.averages = [
            keras.Variable(w.numpy(), trainable=False, dtype="float32", name="average")
            for w in self.weights
        ]
        self.num_batches = 0
        self._trained = None
        self._update = self._compiled_update()

    def _compiled_update(self):
        pairs = list(zip(self.averages, self.weights, strict=True))

        def update(decay) -> None:
            for average, weight in pairs:
                new = keras.ops.cast(weight, "float32")
                average.assign(average + (new - average) * (1.0 - decay))

        if keras.backend.backend() != "tensorflow":
            return update
        import tensorflow as tf

        def update_bare(decay) -> None:
            # What Keras's `assign` looks at for each variable makes the first step later.
            rate = 1.0 - decay
            for average, weight in pairs:
                new = tf.cast(weight.value, tf.float32)
                average.value.assign_add((new - average.value) * rate)

        # Several hundred small operations are a tenth of a step when run one by one.
        compiled = tf.function(update_bare, input_signature=[tf.TensorSpec((), tf.float32)])
        return lambda decay: compiled(tf.constant(decay, tf.float32))

    def decay_of(self, update: int) -> float:
        """The weight of the old average in an update, which are counted from 1."""
        return min(self.decay, (1 + update) / (10 + update))

    @property
    def last_decay(self) -> float:
        """The weight of the old average in the last update so far, or in the first to come."""
        return self.decay_of(max(1, self.num_batches // self._batches_of_update))

    def on_train_begin(self, logs: dict | None = None) -> None:
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        self._batches_of_update = optimizer.gradient_accumulation_steps or 1
        if self._trained is None:
            return
        held = zip(self.weights, self.averages, strict=True)
        if all(np.array_equal(weight.numpy(), average.numpy()) for weight, average in held):
            self._take_out()
        else:
            self._begin()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.num_batches += 1
        update, rest = divmod(self.num_batches, self._batches_of_update)
        if not rest:
            self._update(self.decay_of(update))

    def _put_in(self) -> None:
        if self._trained is None:
            self._trained = [weight.numpy() for weight in self.weights]
            for average, weight in zip(self.averages, self.weights, strict=True):
                weight.assign(average)

    def _take_out(self) -> None:
        if self._trained is not None:
            for trained, weight in zip(self._trained, self.weights, strict=True):
                weight.assign(trained)
            self._trained = None

    @contextlib.contextmanager
    def applied(self, averages: bool = True) -> Iterator[None]:
        """Puts the averages into the model for the length of a `with` block.

        Args:
            averages: The averages, or else the trained weights.
        """
        was_in = self._trained is not None
        (self._put_in if averages else self._take_out)()
        try:
            yield
        finally:
            (self._put_in if was_in else self._take_out)()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._take_out()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._put_in()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._put_in()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._put_in()
