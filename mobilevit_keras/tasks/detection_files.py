"""What a detector's file gives, in either of its two forms."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from mobilevit_keras.boxes import BoxDecoding, suppress
from mobilevit_keras.tasks.objects import LOCATION_NAME, SCORE_NAME
from mobilevit_keras.tasks.task import IN_FILE, RUNTIME, FileOutput, Outputs

CATEGORY_NAME = "category"
NUMBER_NAME = "number of detections"

IN_FILE_RULES = {"score_threshold": 0.05, "iou_threshold": 0.5, "maximum": 100}
"""How a file that suppresses does it: each class by itself, as the paper; `maximum` in all."""


@dataclasses.dataclass(frozen=True)
class DetectorFile:
    """How a detector answers for images of one size.

    By default a file gives what every anchor says, and whoever runs it decodes and suppresses. The
    other form does both itself, for runtimes of before MediaPipe Tasks.

    Attributes:
        decoding: How boxes are read from what the anchors say, by whoever does it.
        suppresses: Whether the file is of the other form.
    """

    decoding: BoxDecoding
    suppresses: bool = False

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """Reads what a file says of itself.

        Raises:
            ValueError: If its boxes must be read by a rule that this version does not know.
        """
        size, found = tuple(description["size"]), description.get("decoding") or {}
        suppresses = description.get("suppression") == IN_FILE
        return cls(BoxDecoding.from_json(size, found), suppresses)

    def described(self) -> dict[str, Any]:
        """What the file says of itself."""
        described = {"suppression": RUNTIME, "decoding": self.decoding.as_json()}
        if self.suppresses:
            described |= {"suppression": IN_FILE, "suppression_rules": IN_FILE_RULES}
        return described

    def outputs(self, class_names: Sequence[str]) -> list[FileOutput]:
        """What its outputs mean."""
        if not self.suppresses:
            text = "Middle's y and x, height and width of each box, relative to its anchor"
            return [
                FileOutput(LOCATION_NAME, text, None, None, kind="boxes"),
                FileOutput(SCORE_NAME, "Probability of each class, for each anchor", class_names),
            ]
        text = "Top, left, bottom and right of each box, in sides of the image"
        return [
            FileOutput(LOCATION_NAME, text, None, None, kind="boxes"),
            FileOutput(CATEGORY_NAME, "Class of each box", class_names, None, kind="categories"),
            FileOutput(SCORE_NAME, "Probability of its class, for each box"),
            FileOutput(NUMBER_NAME, "How many of the boxes there are", None, None),
        ]

    def found(
        self, outputs: Outputs, score_threshold: float, **rules
    ) -> list[dict[str, np.ndarray]]:
        """The boxes that it finds in each image, the surest first.

        Args:
            outputs: Its answers.
            score_threshold: What a score must be above.
            **rules: Further arguments of `suppress`; where the file suppresses, its own count.

        Returns:
            For each image "boxes" `(N, 4)`, left, top, right, bottom in sides of the image,
            "labels" `(N,)`, classes from 0, and "scores" `(N,)`.
        """
        if not self.suppresses:
            boxes = self.decoding.boxes(outputs[LOCATION_NAME])
            return suppress(boxes, outputs[SCORE_NAME], score_threshold, **rules)
        names = (LOCATION_NAME, CATEGORY_NAME, SCORE_NAME, NUMBER_NAME)
        found = []
        for boxes, categories, scores, number in zip(*(outputs[n] for n in names), strict=True):
            # After the last box there are zeros.
            is_box = (np.arange(len(scores)) < np.rint(number)) & (scores > score_threshold)
            found.append(
                {
                    # Top, left, bottom, right in the file.
                    "boxes": boxes[is_box][:, (1, 0, 3, 2)],
                    "labels": np.rint(categories[is_box]).astype("int32"),
                    "scores": scores[is_box],
                }
            )
        return found
