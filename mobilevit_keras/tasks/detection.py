"""Where in an image there is what."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from mobilevit_keras.boxes import PADDING, RULES, BoxDecoding, file_order, to_pixels
from mobilevit_keras.data.sources.objects import CROWD, DIFFICULT
from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN
from mobilevit_keras.metrics import AveragePrecision, MultiBoxLoss
from mobilevit_keras.metrics.average_precision import SIZES
from mobilevit_keras.models import MobileViTObjectDetector, VisionTask, class_names_of
from mobilevit_keras.source_kinds import BOXES_AND_IGNORED
from mobilevit_keras.tasks.detection_files import IN_FILE_RULES, DetectorFile
from mobilevit_keras.tasks.objects import (
    LOCATION_NAME,
    SCORE_NAME,
    BoxComparison,
    DetectionComparison,
)
from mobilevit_keras.tasks.task import IN_FILE, RUNTIME, FileOutput, Meter, Outputs, Task

# What counts for average precision; COCO's.
_LEAST_SCORE = 0.01

# The mean average precision of boxes at random is 0; of one that has hardly learned, below this.
_CHANCE = 0.01

# What is drawn, and what a teacher must be sure of.
_SURE = 0.5

# What is told of an image in words.
_LIKELY = 0.05

# How many classes a caption names.
_NAMED = 2


class BoxMeter(Meter):
    """COCO's mean average precision, in pixels of the original images.

    Args:
        class_names: Names of the classes.
        find: Makes of answers what `suppress` returns, boxes in sides of the image, given the score
            that a detection must be above.

    Attributes:
        class_names: Names of the classes.
        precision: The `AveragePrecision`.
    """

    def __init__(self, class_names: Sequence[str], find: Callable) -> None:
        self.class_names = tuple(class_names)
        self.precision = AveragePrecision(len(self.class_names))
        self._find = find

    def update(self, outputs: Outputs, targets) -> None:
        """Takes the answers to a batch, and its boxes.

        Args:
            outputs: Those of a file of either form.
            targets: {"boxes": `(B, M, 4)` in pixels of the original images, "labels": `(B, M)`,
                "shape": the images' heights and widths `(B, 2)`} and, where it is known, "ignored"
                `(B, M)`: what need not be found.
        """
        targets = {name: np.asarray(values) for name, values in targets.items()}
        ignored = targets.get("ignored", np.zeros_like(targets["labels"]))
        for image, found in enumerate(self._find(outputs, _LEAST_SCORE)):
            rows = targets["labels"][image] != PADDING
            self.precision.update(
                {**found, "boxes": to_pixels(found["boxes"], *targets["shape"][image])},
                targets["boxes"][image][rows],
                targets["labels"][image][rows],
                ignored[image][rows] == DIFFICULT,
                ignored[image][rows] == CROWD,
            )

    def result(self) -> dict[str, float]:
        mean = self.precision.mean
        figures = {"map": mean(), "map50": mean(0.5), "map75": mean(0.75)}
        # Without a box there is nothing to be right about.
        return {name: float(np.nan_to_num(value)) for name, value in figures.items()}

    def details(self) -> dict[str, dict[str, float]]:
        mean, names = self.precision.mean, self.class_names
        details = {
            "map_by_size": {size: mean(size=size) for size in SIZES[1:]},
            "map_by_class": {name: mean(label=label) for label, name in enumerate(names)},
            "map50_by_class": {name: mean(0.5, label=label) for label, name in enumerate(names)},
        }
        return {
            name: {part: value for part, value in parts.items() if not np.isnan(value)}
            for name, parts in details.items()
        }


class Detection(Task):
    """Object detection: boxes and classes of the anchors of SSDLite.

    What takes answers, as `compare`, `meter` and `draw_examples` do, needs to know for which
    images: see `for_size` and `for_description`.

    Args:
        rules: By which of `RULES` boxes that lie on each other go, where a file does not do it:
            "paper", in each class by itself; or "mediapipe", whatever their classes, as users of
            its detector get them.
        file: How answers are given, where that is known.

    Raises:
        ValueError: If there are no such rules.
    """

    name = "detection"
    model_class = MobileViTObjectDetector
    fields = BOXES_AND_IGNORED
    monitor = "map"
    curves = (("Mean average precision", "map"), ("At an IoU of 0.5", "map50"))
    whole_targets = True
    measured = True

    def __init__(self, rules: str = "paper", file: DetectorFile | None = None) -> None:
        if rules not in RULES:
            raise ValueError(f"`rules` must be one of {tuple(RULES)}. Received: {rules!r}.")
        self.rules = rules
        self._file = file

    def with_rules(self, rules: str) -> Self:
        """The same task, whose boxes go by other rules."""
        return type(self)(rules, self._file)

    def prepare(self, model: VisionTask) -> Callable:
        def match(images, targets):
            """Gives each anchor of a step's images what it answers for."""
            labels = targets["labels"]
            if "ignored" in targets:
                labels = ops.where(targets["ignored"] == CROWD, PADDING, labels)
            boxes = {"boxes": targets["boxes"], "labels": labels}
            return images, model.targets(boxes, *ops.shape(images)[1:3])

        return match

    def loss(self) -> keras.Loss:
        return MultiBoxLoss()

    def chance(self, num_classes: int) -> float:
        return _CHANCE

    def metrics(self, model: VisionTask) -> list[keras.Metric]:
        return []

    def distance(self, teacher, outputs, temperature: float = 1.0):
        """Cross-entropy of all anchors, and smooth L1 where the teacher is sure of an object.

        As in the loss of the targets, of the sum each sure anchor has its share.
        """
        logits, boxes = (ops.stop_gradient(teacher[name]) for name in ("logits", "boxes"))
        target = ops.softmax(ops.cast(logits, "float32") / temperature)
        answer = ops.log_softmax(ops.cast(outputs["logits"], "float32") / temperature)
        entropy = -(temperature**2) * ops.sum(target * answer)
        # Of the unsoftened answer. (B, A, K + 1) -> (B, A, 1)
        background = ops.softmax(ops.cast(logits, "float32"))[..., :1]
        sure = ops.cast(background < 1.0 - _SURE, "float32")
        distance = ops.abs(ops.cast(outputs["boxes"], "float32") - ops.cast(boxes, "float32"))
        smooth = ops.where(distance < 1.0, 0.5 * ops.square(distance), distance - 0.5)
        return (entropy + ops.sum(sure * smooth)) / ops.maximum(ops.sum(sure), 1.0)

    @property
    def file(self) -> DetectorFile:
        """How answers are given.

        Raises:
            ValueError: If that is not known.
        """
        if self._file is None:
            raise ValueError(
                "Of detections the task must know for which images they are: see `for_size` and "
                "`for_description`. Received: a task of any."
            )
        return self._file

    @property
    def decoding(self) -> BoxDecoding | None:
        return None if self.file.suppresses else self.file.decoding

    def for_size(
        self, model: VisionTask, size: tuple[int, int], suppression: str = RUNTIME
    ) -> Self:
        file = DetectorFile(model.decoding(*size), suppresses=suppression == IN_FILE)
        return type(self)(self.rules, file)

    def for_description(self, description: Mapping[str, Any]) -> Self:
        return type(self)(self.rules, DetectorFile.from_description(description))

    def described(self) -> dict[str, Any]:
        return self.file.described()

    def serve(self, outputs) -> dict[str, Any]:
        return self._serve_ordered({**outputs, "boxes": file_order(outputs["boxes"])})

    @contextlib.contextmanager
    def converting(self, deployed: VisionTask) -> Iterator[Callable[[Any], dict[str, Any]]]:
        with deployed.in_file_order():
            yield self._serve_ordered

    def _serve_ordered(self, outputs) -> dict[str, Any]:
        # Background is no answer. In int8 the factor keeps probabilities in float where they are
        # cut, below one; the cut is written without an ellipsis, which XNNPACK does not take.
        scores = ops.softmax(ops.cast(outputs["logits"], "float32")) * (1.0 / FLOAT_AGAIN)
        return {LOCATION_NAME: outputs["boxes"], SCORE_NAME: scores[:, :, 1:]}

    def file_outputs(self, model: VisionTask) -> list[FileOutput]:
        return self.file.outputs(class_names_of(model))

    def compare(self, expected: Outputs, actual: Outputs) -> BoxComparison:
        """Compares a file's answers with what Keras's anchors say; see `Task`."""
        if not self.file.suppresses:
            return DetectionComparison(expected, actual, self.file.decoding)
        by_anchors = DetectorFile(self.file.decoding).found(expected, **IN_FILE_RULES)
        return BoxComparison(by_anchors, self.file.found(actual, IN_FILE_RULES["score_threshold"]))

    def find(self, outputs: Outputs, score_threshold: float) -> list[dict[str, np.ndarray]]:
        """What answers say is where, the surest first; see `DetectorFile.found`.

        Args:
            outputs: The answers.
            score_threshold: What a score must be above.
        """
        return self.file.found(outputs, score_threshold, **RULES[self.rules])

    def meter(self, class_names: Sequence[str] | None) -> BoxMeter:
        return BoxMeter(class_names, self.find)

    def draw(self, meter: Meter, class_names: Sequence[str] | None, picture: str | Path) -> None:
        """Draws precision over recall of every class; see `Task`."""
        from mobilevit_keras.tasks.pictures import plot_precisions

        figures = meter.result()
        title = ", ".join(f"{name} {value:.1%}" for name, value in figures.items())
        plot_precisions(meter.precision, class_names, picture, title)

    def draw_examples(
        self,
        images: Sequence[np.ndarray],
        outputs: Outputs,
        targets: Sequence[Any],
        class_names: Sequence[str] | None,
        picture: str | Path,
    ) -> None:
        """Draws in each row an image with its boxes and with those the model finds; see `Task`."""
        from mobilevit_keras.data.preview import draw_boxes
        from mobilevit_keras.tasks.pictures import draw_sheet, panel_of

        rows = []
        found = self.find(outputs, _SURE)
        for image, answer, target in zip(images, found, targets, strict=True):
            shape = np.asarray(target["shape"])
            panel = panel_of(image, *shape)
            # Height and width of the panel in those of the original.
            scale = np.array(panel.shape[1::-1] * 2) / np.tile(shape[::-1], 2)
            truth = draw_boxes(panel, target["boxes"] * scale, target["labels"], class_names)
            boxes = to_pixels(answer["boxes"], *panel.shape[:2])
            texts = [
                f"{class_names[label]} {100 * score:.0f}%"
                for label, score in zip(answer["labels"], answer["scores"], strict=True)
            ]
            drawn = draw_boxes(panel, boxes, answer["labels"], class_names, texts)
            rows.append((truth, drawn))
        draw_sheet(rows, ("truth", "answer"), {}, picture)

    def captions(self, target: Mapping, class_names: Sequence[str] | None) -> list[str]:
        """Counts the objects of the classes that there are most of."""
        labels = target["labels"][target["labels"] != PADDING].tolist()
        counts = Counter(labels).most_common(_NAMED)
        return [f"{count} {class_names[label]}" for label, count in counts]

    def answers(self, outputs: Outputs, class_names: Sequence[str] | None, top: int) -> list:
        """For each image `(class name, score of its surest box)` pairs, the surest first."""
        answers = []
        for found in self.find(outputs, _LIKELY):
            best: dict[int, float] = {}
            for label, score in zip(found["labels"].tolist(), found["scores"], strict=True):
                best.setdefault(label, float(score))
            names = class_names or [str(label) for label in range(max(best, default=0) + 1)]
            answers.append([(names[label], score) for label, score in best.items()][:top])
        return answers
