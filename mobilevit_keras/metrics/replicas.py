"""Losses that divide by what a batch holds, where several replicas have a part of it each."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras

_ARE_PARTS = contextvars.ContextVar("_ARE_PARTS", default=False)


@contextlib.contextmanager
def parts_of_batches() -> Iterator[None]:
    """Says that what a loss sees within the block is a replica's part of a batch.

    All replicas must come through the block, and none inside of a condition or loop of the graph.
    """
    token = _ARE_PARTS.set(True)
    try:
        yield
    finally:
        _ARE_PARTS.reset(token)


def mean_over_replicas(value):
    """The mean over the replicas that share a batch, of a number that no gradient goes through.

    The sum of the parts' losses over this number, a mean over the replicas again as Keras takes it,
    is the whole batch's.

    Args:
        value: A scalar tensor.

    Returns:
        A scalar tensor; `value` itself where nobody shares a batch, see `parts_of_batches`.
    """
    if not _ARE_PARTS.get() or keras.backend.backend() != "tensorflow":
        return value
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
