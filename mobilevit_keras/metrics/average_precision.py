"""Average precision of detections, as COCO's own library counts it."""

import contextlib
import io
from collections.abc import Mapping

import numpy as np

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
"""Intersections over union from which on a detection is right."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where COCO reads the precision."""

SIZES = ("all", "small", "medium", "large")
"""Areas of boxes: any, up to 32 squared pixels of the original image, up to 96 squared, above."""


class AveragePrecision:
    """COCO's average precision, of images one after the other.

    By COCO's rules: of an image and class the 100 surest detections count; those that only match
    what need not be found count neither as right nor as wrong. Such are crowds, which a detection
    matches by the part of it that lies in the crowd's box, and, as PASCAL VOC has it, difficult
    objects, which it matches as others.

    Sizes are those of the boxes; COCO's own tables have the areas of its masks.

    Args:
        num_classes: Number of classes K.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._num_images = 0
        self._truths: list[dict] = []
        self._found: list[dict] = []
        self._precisions: np.ndarray | None = None

    def update(
        self,
        found: Mapping[str, np.ndarray],
        boxes: np.ndarray,
        labels: np.ndarray,
        difficult: np.ndarray | None = None,
        crowds: np.ndarray | None = None,
    ) -> None:
        """Takes an image.

        Args:
            found: What `suppress` returns of it, boxes in pixels.
            boxes: What is there, `(N, 4)`: left, top, right, bottom in pixels.
            labels: `(N,)`, classes from 0.
            difficult: Which of them need not be found, bool `(N,)`.
            crowds: Which of them are around crowds, bool `(N,)`.
        """
        image = self._num_images
        self._num_images += 1
        self._precisions = None
        none = np.zeros(len(labels), bool)
        difficult, crowds = (none if flags is None else flags for flags in (difficult, crowds))
        for box, label, *flags in zip(boxes, labels, difficult, crowds, strict=True):
            self._truths.append(
                {
                    **_annotation(len(self._truths) + 1, image, box, label),
                    "is_crowd": int(flags[1]),
                    # What COCO's library passes over.
                    "iscrowd": int(any(flags)),
                }
            )
        for box, label, score in zip(
            *(found[n] for n in ("boxes", "labels", "scores")), strict=True
        ):
            annotation = _annotation(len(self._found) + 1, image, box, label)
            self._found.append({**annotation, "score": float(score)})

    def precisions(self) -> np.ndarray:
        """Precision at each of `IOU_THRESHOLDS`, `RECALLS`, classes and `SIZES`, `(T, R, K, S)`.

        NaN where there is nothing of the class and size to be found.
        """
        if self._precisions is None:
            self._precisions = self._evaluated()
        return self._precisions

    def mean(
        self, iou_threshold: float | None = None, size: str = "all", label: int | None = None
    ) -> float:
        """Mean average precision; NaN where there is nothing to be found.

        Args:
            iou_threshold: One of `IOU_THRESHOLDS`; the mean over all by default.
            size: One of `SIZES`.
            label: A class; the mean over those that there are by default.
        """
        found = self.precisions()[..., SIZES.index(size)]
        if iou_threshold is not None:
            found = found[IOU_THRESHOLDS.index(iou_threshold)][None]
        if label is not None:
            found = found[..., label]
        found = found[~np.isnan(found)]
        return float(found.mean()) if found.size else float("nan")

    def _evaluated(self) -> np.ndarray:
        if not self._truths:
            return np.full(
                (len(IOU_THRESHOLDS), len(RECALLS), self.num_classes, len(SIZES)), np.nan
            )
        # The library tells of each of its steps.
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = _evaluation(self._data(self._truths), self._data(self._found))
        # (T, R, K, S, numbers of detections) -> (T, R, K, S)
        precisions = evaluation.eval["precision"][..., -1]
        return np.where(precisions < 0.0, np.nan, precisions)

    def _data(self, annotations: list[dict]) -> dict:
        """Annotations as the library reads them from a file."""
        return {
            "images": [{"id": image} for image in range(self._num_images)],
            "categories": [{"id": label} for label in range(self.num_classes)],
            "annotations": annotations,
        }


def _annotation(number: int, image: int, box: np.ndarray, label: int) -> dict:
    left, top, right, bottom = (float(side) for side in box)
    width, height = right - left, bottom - top
    return {
        # From 1: the library takes 0 for no match.
        "id": number,
        "image_id": image,
        "category_id": int(label),
        "bbox": [left, top, width, height],
        "area": width * height,
    }


def _evaluation(truths: dict, found: dict):
    """COCO's evaluation of boxes, done."""
    # Only who measures a detector needs it.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        """Passes over difficult objects by their overlap, and not as over crowds."""

        def computeIoU(self, imgId, catId):
            objects = self._gts[imgId, catId]
            passed_over = [each["iscrowd"] for each in objects]
            for each in objects:
                each["iscrowd"] = each["is_crowd"]
            overlaps = super().computeIoU(imgId, catId)
            for each, flag in zip(objects, passed_over, strict=True):
                each["iscrowd"] = flag
            return overlaps

    sets = []
    for data in (truths, found):
        coco = COCO()
        coco.dataset = data
        coco.createIndex()
        sets.append(coco)
    evaluation = Evaluation(*sets, iouType="bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation
