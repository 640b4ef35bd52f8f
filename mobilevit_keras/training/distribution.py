"""Training on several devices or machines: `tf.distribute` under Keras `fit`.

Every replica takes an equal part of each step's batch, so all see one image size; batch norms take
their statistics over the whole batch; the loss and its gradients are the whole batch's means. The
weights after a step are those of one device with the same batch, up to the order of additions.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mobilevit_keras.metrics.replicas import parts_of_batches
from mobilevit_keras.training.checkpoints import list_checkpoints

DISTRIBUTE = ("none", "mirrored", "multi_worker")


def open_strategy(name: str) -> tf.distribute.Strategy | None:
    """Opens a way of distribution; for "multi_worker" before TensorFlow does anything else.

    Args:
        name: "none"; "mirrored", all devices of this machine (GPUs, or CPU devices where there are
            none); or "multi_worker", all devices of the machines that the environment's TF_CONFIG
            names.

    Returns:
        The strategy, or None for "none".

    Raises:
        ValueError: If there is no such way, or TF_CONFIG does not describe the workers.
    """
    if name not in DISTRIBUTE:
        raise ValueError(f"`distribute` must be one of {DISTRIBUTE}. Received: {name!r}.")
    if name == "none":
        return None
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    described = os.environ.get("TF_CONFIG", "")
    try:
        content = json.loads(described)
        workers, task = content["cluster"]["worker"], content["task"]
        valid = task["type"] == "worker" and 0 <= int(task["index"]) < len(workers)
    except (ValueError, TypeError, KeyError):
        valid = False
    if not valid:
        raise ValueError(
            "With several workers TF_CONFIG must name them and this one, such as "
            '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. Received: {described!r}.'
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is the one that writes files: the first worker, or the only process."""
    resolver = None if strategy is None else strategy.cluster_resolver
    return resolver is None or not resolver.task_type or resolver.task_id == 0


def has_workers(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process is one of several workers."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def num_replicas(strategy: tf.distribute.Strategy | None) -> int:
    """How many parts each batch is cut into."""
    return 1 if strategy is None else strategy.num_replicas_in_sync


def check_workers_agree(strategy: tf.distribute.Strategy | None, values: dict) -> None:
    """Compares values between the workers; every worker must call this.

    Args:
        strategy: The strategy; None or one of a single machine has nobody to disagree.
        values: What must be equal: a dict that JSON can hold.

    Raises:
        ValueError: On every worker, naming the first key that differs, and how.
    """
    if not has_workers(strategy):
        return
    workers = [json.loads(text) for text in _gather_texts(strategy, json.dumps(values))]
    for key in sorted(set().union(*workers)):
        for index, other in enumerate(workers):
            if key not in other or key not in workers[0] or other[key] != workers[0][key]:
                raise ValueError(
                    f"All workers must have one configuration, and worker 0 has {key}="
                    f"{workers[0].get(key)!r}. Received: {key}={other.get(key)!r} on worker "
                    f"{index}."
                )


@contextlib.contextmanager
def all_workers(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Ends the block on every worker by a ValueError where one worker's has failed.

    A worker that stopped alone would leave the others waiting for it in the next collective step.

    Raises:
        ValueError, OSError: This worker's own mistake, or a ValueError with another one's.
    """
    problem = None
    try:
        yield
    except (ValueError, OSError) as error:
        problem = error
    if has_workers(strategy):
        texts = _gather_texts(strategy, "" if problem is None else str(problem))
    else:
        texts = []
    if problem is not None:
        raise problem
    for index, text in enumerate(texts):
        if text:
            raise ValueError(f"Worker {index} stopped: {text}")


@contextlib.contextmanager
def lost_workers(directory: str | Path) -> Iterator[None]:
    """Says what to do where TensorFlow says in a hundred lines that another worker is gone.

    Args:
        directory: Where the run's checkpoints lie.

    Raises:
        ConnectionError: If another worker ended, or cannot be reached.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if "Collective ops is aborted" not in error.message:
            raise
        saved = list_checkpoints(directory)
        state = (
            f"{saved[-1]} is whole, go on with --resume" if saved else "no checkpoint was written"
        )
        raise ConnectionError(
            f"Another worker ended or cannot be reached; {state}. All workers must start again."
        ) from error


def _gather_texts(strategy: tf.distribute.Strategy, text: str) -> list[str]:
    """Every worker's text, in the workers' order."""
    # A text of no bytes could not be gathered.
    encoded = np.frombuffer(text.encode() + b" ", np.uint8).astype(np.int32)
    count = len(strategy.extended.worker_devices)

    def gather(array: np.ndarray) -> np.ndarray:
        value = strategy.experimental_distribute_values_from_function(lambda _: array)
        return strategy.gather(value, axis=0).numpy()

    # Each of a worker's devices sends the same text.
    lengths = gather(np.array([len(encoded)], np.int32))
    texts = np.split(gather(encoded), np.cumsum(lengths)[:-1])
    return [bytes(part.astype(np.uint8)).decode()[:-1] for part in texts[::count]]


def anywhere(strategy: tf.distribute.Strategy | None) -> Callable[[bool], bool]:
    """Returns a function that says whether its argument is true on any worker.

    Every worker must call it equally often, and waits until all others have done so.
    """
    if not has_workers(strategy):
        return bool

    def on_any(flag: bool) -> bool:
        value = strategy.experimental_distribute_values_from_function(
            lambda _: np.array([flag], np.int32)
        )
        return bool(strategy.gather(value, axis=0).numpy().any())

    return on_any


def mend_fit(model: keras.Model, strategy: tf.distribute.Strategy, element_spec) -> None:
    """Makes Keras 3.15's `fit` and `evaluate` of a compiled model work under a strategy.

    Batch norms are synchronised. Before its first step, `fit` builds the metrics from a batch that
    it averages over the replicas, which several workers cannot do; here they are built from the
    form of the batches. It averages a step's results over the first axis of each, which
    on several workers a scalar does not have; here it gets one. In evaluation a replica may get no
    images of the last round; Keras would take the mean of nothing. A loss that divides by what its
    batch holds, such as pixels that have a class, divides by what the whole batch does.

    Args:
        model: Built and compiled in the strategy's scope.
        strategy: The strategy.
        element_spec: The `tf.TensorSpec`s of a batch, (images, y).
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True

    def build(iterator=None, data_batch=None) -> None:
        with strategy.scope():
            model._symbolic_build(data_batch=element_spec)

    model._maybe_symbolic_build = build
    compute_loss = model.compute_loss

    def loss_of_part(*arguments, training=True, **more):
        # Evaluation may ask one replica alone.
        with parts_of_batches() if training else contextlib.nullcontext():
            return compute_loss(*arguments, training=training, **more)

    model.compute_loss = loss_of_part
    train_step, test_step = model.train_step, model.test_step
    across_workers = has_workers(strategy)

    def with_axis(results: dict) -> dict:
        if not across_workers:
            return results
        return {name: tf.reshape(value, (1,)) for name, value in results.items()}

    def test_some(data) -> dict:
        return tf.cond(
            tf.shape(data[0])[0] > 0,
            lambda: with_axis(test_step(data)),
            lambda: with_axis(model.get_metrics_result()),
        )

    model.train_step = lambda data: with_axis(train_step(data))
    model.test_step = test_some
