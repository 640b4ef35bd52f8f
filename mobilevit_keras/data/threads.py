"""How many threads tf.data gets: numbers that are given, in place of its tuner."""

import os

import tensorflow as tf


def num_cores() -> int:
    """The cores that this process may run on."""
    # Only Linux tells which of the machine's these are.
    allowed = getattr(os, "sched_getaffinity", None)
    return (os.cpu_count() or 1) if allowed is None else len(allowed(0))


def untuned() -> tf.data.Options:
    """Returns the options of a dataset whose stages all say how many threads they take.

    tf.data's tuner sleeps between two looks at a running dataset, longer each time, up to a minute;
    whoever drops an iterator may have to wait for it to wake up. `fit` does so after every epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
