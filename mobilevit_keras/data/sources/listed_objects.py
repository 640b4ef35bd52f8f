"""A source whose images, and the boxes in them, are all known once it is opened."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.sources.listed import Columns, ListedSource
from mobilevit_keras.data.sources.objects import CROWD, Objects, fill_up, has_crowds


class ListedObjects(ListedSource):
    """A source that knows the boxes of all of its images.

    Args:
        class_names: Names of the classes in index order.
        columns: What the records of each split hold. `size`, height and width of the upright image,
            is among it: boxes of an image of another size are refused.
        objects: What is in each image of each split, in pixels.
        fields: The entries that the records have of that.

    Raises:
        ValueError: If there is no box to train on.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        columns: Mapping[str, Columns],
        objects: Mapping[str, Sequence[Objects]],
        fields: Sequence[str],
    ):
        self.fields = tuple(fields)
        has_crowd = any(CROWD in each.ignored for each in objects["train"])
        objects = {
            split: of if has_crowds(split, fields) else [_without_crowds(each) for each in of]
            for split, of in objects.items()
        }
        if not any(len(each.labels) for each in objects["train"]):
            why = self.why_no_boxes()
            told = f" ({why})" if why else ""
            what = "no box but around crowds" if has_crowd else "no box"
            raise ValueError(f"{self}: images with boxes are needed. Received: {what}{told}.")
        # So that there is something to join in a split without images, which is refused below.
        none = Objects.of([])
        self._most = max(len(each.labels) for of in objects.values() for each in of)
        self._objects = {}
        places = {}
        for split, of in objects.items():
            counts = np.array([len(each.labels) for each in of], np.int64)
            places[split] = {"end": np.cumsum(counts), "count": counts}
            self._objects[split] = Objects(
                *(
                    tf.constant(np.concatenate([getattr(each, name) for each in (none, *of)]))
                    for name in ("boxes", "labels", "ignored")
                )
            )
        super().__init__(class_names, {key: {**of, **places[key]} for key, of in columns.items()})

    def why_no_boxes(self) -> str:
        """What there is to say where no image has a box; empty where there is nothing."""
        return self.left_out

    def records(self, split: str, seed: tf.Tensor | None, start: tf.Tensor) -> tf.data.Dataset:
        self.check_split(split)
        objects = self._objects[split]

        def with_objects(record):
            rows = slice(record["end"] - record["count"], record["end"])
            parts = (objects.boxes[rows], objects.labels[rows], objects.ignored[rows])
            entries = fill_up(*parts, self._most, self.fields)
            return {
                "image": record["image"],
                "name": record["name"],
                "size": record["size"],
            } | entries

        return super().records(split, seed, start).map(with_objects)

    def load_boxes(self, record: Mapping[str, tf.Tensor], shape: tf.Tensor) -> tf.Tensor:
        fits = tf.reduce_all(record["size"] == shape)
        # The bare operation: the usual one adds a branch to the graph of every image.
        check = tf.raw_ops.Assert(
            condition=fits, data=["Boxes must be of an image of this size:", record["size"]]
        )
        with tf.control_dependencies([check]):
            return tf.identity(record["boxes"])


def _without_crowds(objects: Objects) -> Objects:
    kept = objects.ignored != CROWD
    return Objects(objects.boxes[kept], objects.labels[kept], objects.ignored[kept])
