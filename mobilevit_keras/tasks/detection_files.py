"""What a detector's file gives, in either of its two forms."""

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from keras import ops

from mobilevit_keras.boxes import BoxDecoding, file_order, suppress
from mobilevit_keras.models import VisionTask
from mobilevit_keras.tasks.classification import class_names_of
from mobilevit_keras.tasks.objects import LOCATION_NAME, SCORE_NAME, DetectionComparison
from mobilevit_keras.tasks.task import IN_FILE, RUNTIME, FileOutput, Outputs, Task

CATEGORY_NAME = "category"
NUMBER_NAME = "number of detections"

IN_FILE_RULES = {"score_threshold": 0.05, "iou_threshold": 0.5, "maximum": 100}
"""How a file that suppresses does it: each class by itself, as the paper; `maximum` in all."""


class DetectionFiles(Task):
    """The part of detection that files are about.

    By default a file gives what every anchor says, and whoever runs it decodes and suppresses. The
    other form does both itself, for runtimes of before MediaPipe Tasks.

    Attributes:
        decoding: How boxes are read from a file, once `for_size` or `for_description` has told.
        in_file: Whether a file suppresses boxes itself.
    """

    decoding: BoxDecoding | None = None
    in_file: bool = False

    def for_size(
        self, model: VisionTask, size: tuple[int, int], suppression: str = RUNTIME
    ) -> Self:
        task = copy.copy(self)
        task.decoding, task.in_file = model.decoding(*size), suppression == IN_FILE
        return task

    def for_description(self, description: Mapping[str, Any]) -> Self:
        task = copy.copy(self)
        task.in_file = description.get("suppression", RUNTIME) == IN_FILE
        if not task.in_file:
            size = tuple(description["size"])
            task.decoding = BoxDecoding.from_json(size, description.get("decoding") or {})
        return task

    def described(self) -> dict[str, Any]:
        if self.in_file:
            return {"suppression": IN_FILE, "suppression_rules": IN_FILE_RULES}
        return {"suppression": RUNTIME, "decoding": self.decoding.as_json()}

    def serve(self, outputs) -> dict[str, Any]:
        # Background is no answer. Written without an ellipsis, which XNNPACK does not take.
        scores = ops.softmax(outputs["logits"], axis=-1)[:, :, 1:]
        return {LOCATION_NAME: file_order(outputs["boxes"]), SCORE_NAME: scores}

    def file_outputs(self, model: VisionTask) -> list[FileOutput]:
        names = class_names_of(model)
        if not self.in_file:
            text = "Middle's y and x, height and width of each box, relative to its anchor"
            return [
                FileOutput(LOCATION_NAME, text, None, None, kind="boxes"),
                FileOutput(SCORE_NAME, "Probability of each class, for each anchor", names),
            ]
        text = "Top, left, bottom and right of each box, in sides of the image"
        return [
            FileOutput(LOCATION_NAME, text, None, None, kind="boxes"),
            FileOutput(CATEGORY_NAME, "Class of each box", names, None, kind="categories"),
            FileOutput(SCORE_NAME, "Probability of its class, for each box"),
            FileOutput(NUMBER_NAME, "How many of the boxes there are", None, None),
        ]

    def compare(self, expected: Outputs, actual: Outputs) -> DetectionComparison:
        return DetectionComparison(expected, actual, self.decoding)

    def found(self, outputs: Outputs, **rules) -> list[dict[str, np.ndarray]]:
        """The boxes that a file of either form finds in each image, the surest first.

        Args:
            outputs: The file's answers.
            **rules: See `suppress`; of a file that has suppressed already they change nothing.

        Returns:
            For each image "boxes" `(N, 4)`, left, top, right, bottom in sides of the image,
            "labels" `(N,)`, classes from 0, and "scores" `(N,)`.
        """
        if not self.in_file:
            boxes = self.decoding.boxes(outputs[LOCATION_NAME])
            return suppress(boxes, outputs[SCORE_NAME], **rules)
        numbers = np.rint(outputs[NUMBER_NAME]).astype(int).reshape(-1)
        return [
            {
                # Top, left, bottom, right in the file.
                "boxes": boxes[:number, (1, 0, 3, 2)],
                "labels": np.rint(categories[:number]).astype("int32"),
                "scores": scores[:number],
            }
            for boxes, categories, scores, number in zip(
                outputs[LOCATION_NAME],
                outputs[CATEGORY_NAME],
                outputs[SCORE_NAME],
                numbers,
                strict=True,
            )
        ]
