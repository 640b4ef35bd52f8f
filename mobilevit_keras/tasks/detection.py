"""Where in an image there is what."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from mobilevit_keras.boxes import (
    MAX_SCALE,
    MIN_SCALE,
    PADDING,
    RULES,
    decode_boxes,
    image_anchors,
    suppress,
    to_pixels,
)
from mobilevit_keras.data.sources.objects import CROWD, DIFFICULT
from mobilevit_keras.metrics import AveragePrecision, MultiBoxLoss
from mobilevit_keras.metrics.average_precision import SIZES
from mobilevit_keras.models import MobileViTObjectDetector, VisionTask
from mobilevit_keras.source_kinds import BOXES_AND_IGNORED
from mobilevit_keras.tasks.classification import class_names_of
from mobilevit_keras.tasks.errors import CheckError
from mobilevit_keras.tasks.task import FileOutput, Meter, Outputs, Task

LOCATION, SCORE = "location", "score"
"""The outputs of a file."""

# From x, y, width, height to MediaPipe's order, and back.
_SWAPPED = [1, 0, 3, 2]

# What counts for average precision; COCO's.
_LEAST_SCORE = 0.01

# What is drawn, and what a teacher must be sure of.
_SURE = 0.5

# How many classes a caption names.
_NAMED = 2


class BoxMeter(Meter):
    """COCO's mean average precision, in pixels of the original images.

    Args:
        class_names: Names of the classes.
        find: Makes detections of answers, as `Detection.find` does.

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
            outputs: {"location": `(B, A, 4)`, "score": `(B, A, K)`}.
            targets: {"boxes": `(B, M, 4)` in pixels of the original images, "labels": `(B, M)`,
                "shape": their heights and widths `(B, 2)`, "size": those of the network's `(B, 2)`}
                and, where it is known, "ignored" `(B, M)`: what need not be found.
        """
        targets = {name: np.asarray(values) for name, values in targets.items()}
        ignored = targets.get("ignored", np.zeros_like(targets["labels"]))
        for image, found in enumerate(self._find(outputs, targets["size"][0], _LEAST_SCORE)):
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

    A file's outputs are "location" `(1, A, 4)`, relative to the anchors: middle's y and x, height
    and width; and "score" `(1, A, K)`, probabilities of the classes without background.

    Args:
        suppression: By which of `RULES` boxes that lie on each other go: "paper", in each class by
            itself; or "mediapipe", whatever their classes, as users of its detector get them.
        min_scale, max_scale, multiples: The anchors', see `image_anchors`.

    Raises:
        ValueError: If there is no such rule.
    """

    name = "detection"
    model_class = MobileViTObjectDetector
    fields = BOXES_AND_IGNORED
    monitor = "map"
    curves = (("Mean average precision", "map"), ("At an IoU of 0.5", "map50"))
    whole_targets = True
    measured = True

    def __init__(
        self,
        suppression: str = "paper",
        min_scale: float = MIN_SCALE,
        max_scale: float = MAX_SCALE,
        multiples: Sequence[int] = (1, 1, 1),
    ) -> None:
        if suppression not in RULES:
            raise ValueError(
                f"`suppression` must be one of {tuple(RULES)}. Received: {suppression!r}."
            )
        self.suppression = suppression
        self.scales = (min_scale, max_scale)
        self.multiples = tuple(multiples)

    @classmethod
    def of_model(cls, model: VisionTask) -> "Detection":
        return cls(
            min_scale=model.min_scale,
            max_scale=model.max_scale,
            multiples=model.backbone.map_multiples,
        )

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

    def serve(self, outputs) -> dict:
        return {
            LOCATION: ops.take(outputs["boxes"], ops.array(_SWAPPED), axis=-1),
            SCORE: ops.softmax(ops.cast(outputs["logits"], "float32"))[..., 1:],
        }

    def file_outputs(self, model: VisionTask) -> list[FileOutput]:
        location = "Middle's y and x, height and width of each anchor's box, relative to the anchor"
        return [
            FileOutput(LOCATION, location, None, None),
            FileOutput(SCORE, "Probability of each class, for each anchor", class_names_of(model)),
        ]

    def compare(self, expected: Outputs, actual: Outputs):
        raise CheckError(
            "A file must be compared with Keras before it is left, and a detector's cannot be yet. "
            "Received: a detector to export."
        )

    def find(
        self, outputs: Outputs, size: Sequence[int], score_threshold: float
    ) -> list[dict[str, np.ndarray]]:
        """What answers say is where, the surest first.

        Args:
            outputs: The answers, {"location", "score"}.
            size: Height and width of the network's images.
            score_threshold: What a score must be above.

        Returns:
            What `suppress` does; boxes are in sides of the image.
        """
        anchors = image_anchors(*map(int, size), *self.scales, self.multiples)
        boxes = decode_boxes(np.asarray(outputs[LOCATION], "float32")[..., _SWAPPED], anchors)
        rule = RULES[self.suppression]
        scores = np.asarray(outputs[SCORE], "float32")
        return suppress(ops.convert_to_numpy(boxes), scores, score_threshold, **rule)

    def prepare_evaluation(self, source) -> Callable:
        def with_size(images, targets):
            shape = ops.shape(images)
            size = ops.broadcast_to(ops.cast(ops.stack(shape[1:3]), "int32"), (shape[0], 2))
            return images, {**targets, "size": size}

        return with_size

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
        found = self.find(outputs, images[0].shape[:2], _SURE)
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
        best = np.asarray(outputs[SCORE]).max(axis=1)
        names = class_names or [str(index) for index in range(best.shape[1])]
        order = np.argsort(-best, axis=1, kind="stable")[:, :top]
        return [
            [(names[index], float(scores[index])) for index in row]
            for scores, row in zip(best, order, strict=True)
        ]
