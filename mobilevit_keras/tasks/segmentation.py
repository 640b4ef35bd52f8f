"""Which class every pixel of an image is of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from mobilevit_keras.metrics import (
    IGNORED,
    MeanIoU,
    PixelAccuracy,
    PixelCrossEntropy,
    class_masks,
    confusion_matrix,
    intersection_over_union,
)
from mobilevit_keras.models import MobileViTImageSegmenter, VisionTask, class_names_of
from mobilevit_keras.palette import class_colours
from mobilevit_keras.tasks.pixels import PixelComparison
from mobilevit_keras.tasks.task import FileOutput, Meter, Outputs, Task

OUTPUT_NAME = "segmentation"

# How many classes a caption names.
_NAMED = 2

# How much finer than the logits' cells the shares of an answer are.
_FINER = 8


class MaskMeter(Meter):
    """Mean intersection over union and pixel accuracy, at the full size of the original images.

    Pixels of no class do not count. Classes that neither occur nor are answered are left out of
    the mean, as Keras's `MeanIoU` does.

    Args:
        class_names: Names of the classes.

    Attributes:
        class_names: Names of the classes.
        matrix: How many pixels of each class got each answer, int64 `(K, K)`; true classes in rows.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.matrix = np.zeros((len(self.class_names),) * 2, np.int64)

    def update(self, outputs: Outputs, targets) -> None:
        """Takes logits `(B, h, w, K)` and the whole masks: {"mask": `(B, H, W)`, "shape"}."""
        for logits, truth in zip(outputs[OUTPUT_NAME], whole_masks(targets), strict=True):
            answer = class_masks(logits[None], *truth.shape)[0]
            counts = truth != IGNORED
            self.matrix += confusion_matrix(truth[counts], answer[counts], len(self.matrix))

    @property
    def class_iou(self) -> np.ndarray:
        """Intersection over union of every class, `(K,)`; NaN where there is neither."""
        return intersection_over_union(self.matrix)

    def result(self) -> dict[str, float]:
        iou = self.class_iou[~np.isnan(self.class_iou)]
        return {
            "mean_iou": float(iou.mean()) if iou.size else 0.0,
            "pixel_accuracy": float(np.trace(self.matrix) / max(self.matrix.sum(), 1)),
        }

    def details(self) -> dict[str, dict[str, float]]:
        pairs = zip(self.class_names, self.class_iou.tolist(), strict=True)
        return {"class_iou": {name: iou for name, iou in pairs if not np.isnan(iou)}}


def whole_masks(targets) -> list[np.ndarray]:
    """The masks of a batch, each of its own image's size: `mask` without the padding."""
    masks, shapes = np.asarray(targets["mask"]), np.asarray(targets["shape"])
    return [mask[:height, :width] for mask, (height, width) in zip(masks, shapes, strict=True)]


class Segmentation(Task):
    """Semantic segmentation: a mask of class numbers an image, logits `(B, h, w, K)` in a file too.

    Args:
        class_weights: How much a pixel of each class counts in the loss; see `PixelCrossEntropy`.

    Raises:
        ValueError: If the weights are none.
    """

    name = "segmentation"
    model_class = MobileViTImageSegmenter
    fields = ("mask",)
    monitor = "mean_iou"
    curves = (("Mean IoU", "mean_iou"), ("Pixel accuracy", "pixel_accuracy"))
    whole_targets = True

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        self.class_weights = None if class_weights is None else tuple(class_weights)
        self.loss()

    def loss(self) -> keras.Loss:
        return PixelCrossEntropy(self.class_weights)

    def chance(self, num_classes: int) -> float:
        return 1.0 / num_classes

    def metrics(self, model: VisionTask) -> list[keras.Metric]:
        return [MeanIoU(model.num_classes), PixelAccuracy()]

    def distance(self, teacher, outputs, temperature: float = 1.0):
        # Cell by cell at the output stride: pixels between them would say nothing new.
        target = ops.stop_gradient(ops.softmax(ops.cast(teacher, "float32") / temperature))
        answer = ops.log_softmax(ops.cast(outputs, "float32") / temperature)
        # The square keeps the gradients' size independent of the temperature.
        return -(temperature**2) * ops.mean(ops.sum(target * answer, axis=-1))

    def serve(self, outputs) -> dict:
        return {OUTPUT_NAME: outputs}

    def file_outputs(self, model: VisionTask) -> list[FileOutput]:
        text = "Logits of each class, for each cell of the image"
        return [FileOutput(OUTPUT_NAME, text, class_names_of(model), None, activation="softmax")]

    def compare(self, expected: Outputs, actual: Outputs) -> PixelComparison:
        return PixelComparison(expected[OUTPUT_NAME], actual[OUTPUT_NAME])

    def meter(self, class_names: Sequence[str] | None) -> MaskMeter:
        return MaskMeter(class_names)

    def draw(self, meter: Meter, class_names: Sequence[str] | None, picture: str | Path) -> None:
        from mobilevit_keras.tasks.pictures import plot_confusion

        figures = meter.result()
        title = (
            f"Mean IoU {figures['mean_iou']:.1%}, {figures['pixel_accuracy']:.1%} of pixels right"
        )
        plot_confusion(meter.matrix, class_names, picture, title, {"IoU": meter.class_iou})

    def draw_examples(
        self,
        images: Sequence[np.ndarray],
        outputs: Outputs,
        targets: Sequence[Any],
        class_names: Sequence[str] | None,
        picture: str | Path,
    ) -> None:
        """Draws in each row an image, its true mask and the model's; see `Task`."""
        from mobilevit_keras.tasks.pictures import draw_sheet

        rows, colours = [], class_colours()
        for image, logits, target in zip(images, outputs[OUTPUT_NAME], targets, strict=True):
            height, width = (int(side) for side in target["shape"])
            truth = np.asarray(target["mask"])[:height, :width]
            answer = class_masks(logits[None], height, width)[0]
            rows.append((_stretched(image, height, width), colours[truth], colours[answer]))
        legend = dict(zip(class_names, colours, strict=False))
        legend["no class"] = colours[IGNORED]
        draw_sheet(rows, ("image", "truth", "answer"), legend, picture)

    def captions(self, target: np.ndarray, class_names: Sequence[str] | None) -> list[str]:
        """Names the classes with most pixels, and their shares of those that have a class."""
        counts = np.bincount(target[target != IGNORED], minlength=len(class_names))
        return [f"{100 * share:.0f}% {name}" for name, share in _shares(counts, class_names)][
            :_NAMED
        ]

    def answers(self, outputs: Outputs, class_names: Sequence[str] | None, top: int) -> list:
        """For each image its `(class name, share of the pixels)` pairs, most frequent first."""
        _, height, width, num_classes = outputs[OUTPUT_NAME].shape
        names = class_names or [str(index) for index in range(num_classes)]
        masks = class_masks(outputs[OUTPUT_NAME], _FINER * height, _FINER * width)
        counts = [np.bincount(mask.ravel(), minlength=num_classes) for mask in masks]
        return [_shares(of_image, names)[:top] for of_image in counts]


def _stretched(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """What the network saw, of the original image's size again."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _shares(counts: np.ndarray, names: Sequence[str]) -> list[tuple[str, float]]:
    """The classes that occur with their shares, most frequent first."""
    order = np.argsort(-counts, kind="stable")
    return [(names[index], counts[index] / counts.sum()) for index in order if counts[index]]
