"""A source whose images are all known once it is opened."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from mobilevit_keras.data.source import Source, permutation

Columns = Mapping[str, Any]
"""What the records of a split hold, by key: one value for each image."""


class ListedSource(Source):
    """A source that shuffles all of its images: an epoch's order is a permutation of them.

    Args:
        class_names: Names of the classes in index order.
        columns: What the records of each split hold. `name` is among it, and is the `image` too
            where there is none.
    """

    def __init__(self, class_names: Sequence[str], columns: Mapping[str, Columns]):
        super().__init__(class_names, {split: len(of["name"]) for split, of in columns.items()})
        # Eager tensors are passed to dataset functions by reference; a Python list would become a
        # constant inside each graph.
        self._columns = {
            split: {key: tf.convert_to_tensor(values) for key, values in of.items()}
            for split, of in columns.items()
        }

    def records(self, split: str, seed: tf.Tensor | None, start: tf.Tensor) -> tf.data.Dataset:
        self.check_split(split)
        columns = self._columns[split]
        if seed is None:
            chosen = {key: values[start:] for key, values in columns.items()}
        else:
            length = self.num_examples(split)
            order = tf.numpy_function(
                lambda pair: permutation(pair, length), [seed], tf.int64, stateful=False
            )
            order = tf.ensure_shape(order, (length,))[start:]
            chosen = {key: tf.gather(values, order) for key, values in columns.items()}
        return tf.data.Dataset.from_tensor_slices({"image": chosen["name"], **chosen})
