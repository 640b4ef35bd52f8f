"""Times of `fit`'s steps on batches in memory."""

import time

import keras
import numpy as np
import tensorflow as tf

from mobilevit_keras.data import EpochAdapter
from mobilevit_keras.training.average import ExponentialMovingAverage
from mobilevit_keras.training.run import compile_for
from train.assembly import build_model
from train.config import ClassificationConfig

_NUM_CLASSES = 1000


class _Stopwatch(keras.callbacks.Callback):
    """Notes when each step's loss was there."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_train_begin(self, logs=None) -> None:
        self.times.append(time.perf_counter())

    def on_train_batch_end(self, batch, logs=None) -> None:
        # Reading the loss waits for the step.
        float(logs["loss"])
        self.times.append(time.perf_counter())


def time_steps(
    config: ClassificationConfig, scales: dict[int, int], rounds: int
) -> tuple[float, dict[int, float], int]:
    """Runs `fit` over rounds of one step at each size.

    Args:
        config: What is trained, with averaged weights as in training.
        scales: Batch size of each image size.
        rounds: Rounds to time, after one of warm-up.

    Returns:
        Seconds from the call of `fit` to the first step's end, median seconds of a step at each
        size, and how often the step was traced.
    """
    model = build_model(config, [str(i) for i in range(_NUM_CLASSES)])
    compile_for(config.open_task(), model, config.recipe(), 1000)
    traces = _count_traces(model)
    rng = np.random.default_rng(0)
    sizes = list(scales) * (rounds + 1)
    batches = {
        size: (
            rng.random((batch, size, size, 3), "float32"),
            rng.integers(0, _NUM_CLASSES, batch),
        )
        for size, batch in scales.items()
    }
    dataset = tf.data.Dataset.from_generator(
        lambda: (batches[size] for size in sizes),
        output_signature=(
            tf.TensorSpec((None, None, None, 3)),
            tf.TensorSpec((None,), tf.int64),
        ),
    ).prefetch(2)
    stopwatch = _Stopwatch()
    average = ExponentialMovingAverage(config.ema_decay)
    began_at = time.perf_counter()
    callbacks = [average, stopwatch]
    model.fit(EpochAdapter(dataset, len(sizes)), verbose=0, callbacks=callbacks)
    steps = np.diff(stopwatch.times)[len(scales) :].reshape(rounds, len(scales))
    medians = dict(zip(scales, np.median(steps, axis=0).tolist(), strict=True))
    return stopwatch.times[1] - began_at, medians, len(traces)


def _count_traces(model: keras.Model) -> list[None]:
    """A list that grows by one whenever the training step's Python code runs, which traces it."""
    traces: list[None] = []
    step = model.train_step

    def train_step(data):
        traces.append(None)
        return step(data)

    model.train_step = train_step
    return traces
