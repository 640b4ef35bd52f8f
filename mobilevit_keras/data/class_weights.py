"""How much each class should count, where some fill pictures and others a few pixels."""

import numpy as np

from mobilevit_keras.data.evaluation import EvaluationDataset
from mobilevit_keras.data.geometry import OUTSIDE
from mobilevit_keras.data.source import Source
from mobilevit_keras.paper import MINIMUM_SIZE


def balanced_class_weights(
    source: Source, power: float = 1.0, verbose: int = 0
) -> tuple[float, ...]:
    """Weights by which rare classes count as much as others: median frequency balancing.

    A class's frequency is its share of the pixels of the training images in which it occurs; its
    weight is the median of all classes' frequencies over its own. A class that occurs nowhere
    weighs 1, and no pixel will ask for it.

    Args:
        source: Where the masks come from; all of the training ones are read.
        power: What the weights are raised to: 0.5 lets rare classes count for more, but not for as
            much as others, whose pixels they would else take.
        verbose: 1 shows a progress bar.

    Raises:
        ValueError: If no mask can be read.

    Reference: [Predicting depth, surface normals and semantic labels with a common multi-scale
        convolutional architecture](https://arxiv.org/abs/1411.4734), section 6.3.
    """
    import keras

    num_classes = len(source.class_names)
    own, whole = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    # The network's image is nothing here; the masks are the whole ones.
    dataset = EvaluationDataset(
        source, "train", crop_size=MINIMUM_SIZE, batch_size=1, whole_targets=True
    )
    count = source.num_examples("train")
    progress = keras.utils.Progbar(count, unit_name="mask") if verbose == 1 else None
    with dataset.clear_errors():
        for number, (_, targets) in enumerate(dataset, start=1):
            pixels = np.bincount(targets["mask"].numpy().ravel(), minlength=OUTSIDE + 1)
            pixels = pixels[:num_classes]
            own += pixels
            whole += np.where(pixels > 0, pixels.sum(), 0)
            if progress:
                progress.update(number)
    if progress:
        # Those that cannot be read are never reached.
        progress.update(count, finalize=True)
    if not own.any():
        raise ValueError(f"{source}: no mask of the split 'train' has a pixel of a class.")
    occurs = own > 0
    frequency = own[occurs] / whole[occurs]
    weights = np.ones(num_classes)
    weights[occurs] = (np.median(frequency) / frequency) ** power
    return tuple(float(weight) for weight in weights)
