"""Datasets whose epochs differ in length, for Keras `fit`."""

import contextlib
import warnings
from collections.abc import Iterator

import tensorflow as tf

# Not public, but what `fit` itself wraps every dataset in; a test holds on to the behaviour.
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter


class EpochsOfAnyLength(TFDatasetAdapter):
    """A dataset that `fit` iterates anew each epoch, to that epoch's own end.

    Of a dataset of unknown length Keras takes the first epoch's number of batches for every later
    epoch's, and cuts a longer one off. With a number that no epoch reaches, each ends by itself.

    Args:
        dataset: The dataset.
        most_batches: As many batches as the longest epoch has, or more.
    """

    def __init__(self, dataset: tf.data.Dataset, most_batches: int) -> None:
        super().__init__(dataset)
        # Where an epoch has exactly as many, Keras would start the next one at once.
        self._num_batches = most_batches + 1

    @property
    def num_batches(self) -> int:
        return self._num_batches


@contextlib.contextmanager
def epochs_may_end_early() -> Iterator[None]:
    """Silences Keras's warning that the input ran out, which is how these epochs end."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        yield
