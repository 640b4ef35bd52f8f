"""How good a model's answers are, and how long they take."""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np

from mobilevit_keras.data import EvaluationDataset, SkippedImages, Source
from mobilevit_keras.data.skipped import none_readable
from mobilevit_keras.evaluation.predictors import Predictor
from mobilevit_keras.tasks import Meter


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model answered to images of which the answers are known.

    Attributes:
        result: The task's figures by name; the first is the one to choose models by.
        images: Number of images.
        milliseconds_per_image: Median time of an image in the model alone, without warm-up.
        meter: What measured them, for the task to draw.
        outputs: All answers that are compared, by the names of the outputs, where they were kept.
    """

    result: Mapping[str, float]
    images: int
    milliseconds_per_image: float
    meter: Meter
    outputs: Mapping[str, np.ndarray] | None = None

    def text(self, name: str) -> str:
        """A figure as a person reads it: shares in percent."""
        return figure_text(self.result[name])

    def summary(self) -> dict:
        """The figures, those of parts too, images and milliseconds_per_image, rounded for print."""
        return {
            **{name: round(value, 6) for name, value in self.result.items()},
            **{
                name: {part: round(value, 6) for part, value in parts.items()}
                for name, parts in self.meter.details().items()
            },
            "images": self.images,
            "milliseconds_per_image": round(self.milliseconds_per_image, 3),
        }


def figure_text(value: float) -> str:
    """A figure as a person reads it: shares in percent."""
    return f"{value:.2%}" if 0.0 <= value <= 1.0 else f"{value:.4g}"


def evaluate(
    predictor: Predictor,
    source: Source,
    split: str = "validation",
    batch_size: int | None = None,
    skipped: SkippedImages | None = None,
    keep_outputs: bool = False,
) -> Evaluation:
    """Measures a model on a split of a source, prepared as the model's file says.

    Args:
        predictor: The model.
        source: Where the images come from.
        split: "validation" or "train".
        batch_size: Images at once; by default 64, of masks and boxes 16.
        skipped: Counts and names the images that could not be read.
        keep_outputs: Whether to keep what `Task.compare` looks at of all answers.

    Raises:
        ValueError: If model and source have different classes or order them differently, or no
            image can be read.
    """
    check_class_names(predictor, source)
    if batch_size is None:
        # Whole masks of photographs are large.
        batch_size = 16 if predictor.task.whole_targets else 64
    meter = predictor.task.meter(source.class_names)
    dataset = EvaluationDataset(
        source,
        split,
        short_side=predictor.preprocessing.short_side,
        crop_size=predictor.size,
        interpolation=predictor.preprocessing.interpolation,
        resize=predictor.preprocessing.resize,
        whole_targets=predictor.task.whole_targets,
        batch_size=batch_size,
        skipped=skipped,
        prepare=predictor.task.prepare_evaluation(source),
    )
    waiting = collections.deque()

    def batches():
        for images, targets in dataset.get_numpy_iterator():
            waiting.append(targets)
            yield images

    milliseconds, kept = [], collections.defaultdict(list)
    for results in predictor.run(batches()):
        meter.update(results.outputs, waiting.popleft())
        milliseconds.append(results.milliseconds)
        compared = predictor.task.compared(results.outputs) if keep_outputs else {}
        for name, values in compared.items():
            kept[name].append(values)
    if not milliseconds:
        raise none_readable(source, split, dataset.skipped)
    milliseconds = np.concatenate(milliseconds)
    return Evaluation(
        meter.result(),
        len(milliseconds),
        float(np.median(milliseconds)),
        meter,
        {name: np.concatenate(values) for name, values in kept.items()} if keep_outputs else None,
    )


def check_class_names(predictor: Predictor, source: Source) -> None:
    """Raises ValueError where an index of the answers and one of the targets mean other classes."""
    ours, theirs = predictor.class_names, source.class_names
    if predictor.num_classes is None or theirs is None:
        return
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
