"""What makes a dataset of ours a thing that Keras `fit` and `evaluate` take as it is."""

import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Not public, but what `fit` itself wraps every dataset in; tests hold on to the behaviour.
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter

# The comment in it tells our filter from a person's own, which must stay.
_RAN_OUT = r"Your input ran out of data(?#epochs that end by themselves)"


class EpochAdapter(TFDatasetAdapter):
    """A dataset that `fit` iterates anew each epoch, to that epoch's own end.

    Of a dataset of unknown length Keras takes the first epoch's number of batches for every later
    epoch's, and cuts a longer one off. With a number that no epoch reaches, each ends by itself,
    which Keras warns of; the warning is silenced while such an epoch runs.

    Args:
        dataset: A `tf.data.Dataset` or `tf.distribute.DistributedDataset`, or a function that
            builds it when it is first asked for.
        most_batches: As many batches as the longest epoch has, or more.
        begin: Called before each iterator is made, with whether an epoch begins. Where none does,
            only a first batch is looked at.
    """

    def __init__(
        self, dataset: Any, most_batches: int, begin: Callable[[bool], None] | None = None
    ):
        self._source_dataset = dataset
        self._most_batches = most_batches
        self._begin = begin
        self._is_opening = False

    @property
    def _dataset(self) -> Any:
        if callable(self._source_dataset):
            self._source_dataset = self._source_dataset()
        return self._source_dataset

    @property
    def element_spec(self) -> Any:
        """The `tf.TensorSpec`s of a batch, (images, y)."""
        return self._dataset.element_spec

    @property
    def num_batches(self) -> int:
        # Where an epoch has exactly as many, Keras would start the next one at once.
        return self._most_batches + 1

    def get_tf_dataset(self) -> Any:
        self._is_opening = True
        return self._dataset

    def on_epoch_begin(self) -> None:
        # Under a strategy `fit` takes a first batch to build the model from, before it resets what
        # it has opened (by `on_epoch_end`): that batch is of no epoch.
        if self._begin is not None:
            self._begin(not self._is_opening)
        warnings.filterwarnings("ignore", message=_RAN_OUT)

    def on_epoch_end(self) -> None:
        self._is_opening = False
        ours = [item for item in warnings.filters if getattr(item[1], "pattern", "") == _RAN_OUT]
        for item in ours:
            warnings.filters.remove(item)


def cut_batches(dataset: tf.data.Dataset, parts: int) -> tf.data.Dataset:
    """Cuts each batch into equal parts, which follow each other."""
    if parts == 1:
        return dataset

    def cut(tensor):
        # (B, ...) -> (parts, B / parts, ...)
        return tf.reshape(tensor, tf.concat([[parts, -1], tf.shape(tensor)[1:]], 0))

    return dataset.flat_map(
        lambda *batch: tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(cut, batch))
    )
