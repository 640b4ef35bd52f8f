"""What happens to an image's targets while the image is cropped, resized and mirrored."""

from collections.abc import Callable

import tensorflow as tf

from mobilevit_keras.data.geometry import Geometry

# Kinds of targets that lie in the image, by the name of their field: how they follow the pixels.
# Others, such as a label, belong to an image as a whole and pass as they are.
MOVES: dict[str, Callable[[tf.Tensor, Geometry], tf.Tensor]] = {}


def move_targets(record: dict[str, tf.Tensor], geometry: Geometry) -> dict[str, tf.Tensor]:
    """Returns those of a record's targets that lie in the image, moved along with its pixels."""
    return {name: move(record[name], geometry) for name, move in MOVES.items() if name in record}


def as_y(targets: dict[str, tf.Tensor]):
    """The targets as Keras takes them: the only one itself, or a dict of several."""
    return next(iter(targets.values())) if len(targets) == 1 else targets
