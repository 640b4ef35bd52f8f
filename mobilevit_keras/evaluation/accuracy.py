"""Accuracy and time of a model on labelled images."""

import dataclasses

import numpy as np

from mobilevit_keras.data import SkippedImages, Source, evaluation_dataset
from mobilevit_keras.evaluation.predictors import Predictor


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model answered to labelled images.

    Attributes:
        probabilities: `(N, K)`.
        labels: `(N,)`.
        milliseconds_per_image: Median time of an image in the model alone, without warm-up.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    milliseconds_per_image: float

    def top(self, k: int) -> float:
        """Fraction of the images whose class is among the `k` most probable ones."""
        # A stable sort gives ties to the lower class, on every machine.
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float((best == self.labels[:, None]).any(axis=1).mean())

    def summary(self) -> dict:
        """top1, top5, images and milliseconds_per_image, rounded for print."""
        return {
            "top1": round(self.top(1), 6),
            "top5": round(self.top(5), 6),
            "images": len(self.labels),
            "milliseconds_per_image": round(self.milliseconds_per_image, 3),
        }


def evaluate(
    predictor: Predictor,
    source: Source,
    split: str = "validation",
    batch_size: int = 64,
    skipped: SkippedImages | None = None,
) -> Evaluation:
    """Classifies a split of a source, prepared as the model's file says.

    Args:
        predictor: The model.
        source: Where the images come from.
        split: "validation" or "train".
        batch_size: Images at once.
        skipped: Counts and names the images that could not be read.

    Raises:
        ValueError: If model and source have different classes or order them differently, or no
            image can be read.
    """
    _check_class_names(predictor, source)
    dataset = evaluation_dataset(
        source,
        split,
        short_side=predictor.preprocessing.short_side,
        crop_size=predictor.size,
        interpolation=predictor.preprocessing.interpolation,
        batch_size=batch_size,
        skipped=skipped,
    )
    labels = []

    def batches():
        for images, batch_labels in dataset.as_numpy_iterator():
            labels.append(batch_labels)
            yield images

    try:
        probabilities, milliseconds = predictor.run(batches())
    except ValueError:
        if not labels:
            raise ValueError(f"{source}: no image of the split {split!r} can be read.") from None
        raise
    return Evaluation(probabilities, np.concatenate(labels), float(np.median(milliseconds)))


def _check_class_names(predictor: Predictor, source: Source) -> None:
    """Raises ValueError where an index of the answers and one of the labels mean other classes."""
    ours, theirs = predictor.class_names, source.class_names
    if predictor.num_classes != len(theirs):
        raise ValueError(
            "Model and data must have the same classes. "
            f"Received: {predictor.path} with {predictor.num_classes}, "
            f"{source} with {len(theirs)}."
        )
    # What has no names is numbered; then the number of classes is all that can be compared.
    numbers = tuple(str(index) for index in range(len(theirs)))
    if ours is None or numbers in (ours, theirs) or ours == theirs:
        return
    index = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len(set(pair)) > 1)
    what = "in the same order" if sorted(ours) == sorted(theirs) else "of the same names"
    raise ValueError(
        f"Model and data must have the same classes {what}. Received: class {index} is "
        f"{ours[index]!r} in {predictor.path} and {theirs[index]!r} in {source}."
    )
