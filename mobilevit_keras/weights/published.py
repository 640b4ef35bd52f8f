"""What published checkpoints do not say themselves: the names of their classes, and the image."""

import functools
import importlib.resources
from typing import Any

from mobilevit_keras.data.sources.voc_folder import CLASS_NAMES as VOC_CLASS_NAMES
from mobilevit_keras.models import Preprocessing
from mobilevit_keras.models.image_segmenter import HEAD_FILTERS
from mobilevit_keras.weights import layouts

# Sides of the square that the whole image is stretched to, in the authors' configurations.
_SIDES = {layouts.SEGMENTATION: 512, layouts.DETECTION: 320}

# MobileViTv2's of ADE20K have finer maps, and dilations that go with them. Its classes are 150 to
# the authors, who leave background out, and one more where it counts.
_ADE20K = (150, 151)

# By task and number of classes.
_CLASS_FILES = {
    (layouts.CLASSIFICATION, 1000): "imagenet_classes.txt",
    (layouts.SEGMENTATION, 150): "ade20k_classes.txt",
    (layouts.DETECTION, 80): "coco_classes.txt",
}


@functools.cache
def published_class_names(task: str, num_classes: int) -> tuple[str, ...] | None:
    """Returns the names in the order of the published models' logits, None where none has so many.

    Args:
        task: One of `layouts.tasks`.
        num_classes: Of classification 1000, ImageNet-1k's; of segmentation 21, PASCAL VOC's after
            their background, or 150, ADE20K's; of detection 80, COCO's.

    Example:
    >>> published_class_names("classification", 1000)[281]
    'tabby'
    >>> published_class_names("segmentation", 21)[15]
    'person'
    >>> published_class_names("segmentation", 150)[12]
    'person'
    >>> published_class_names("detection", 80)[79]
    'toothbrush'
    """
    if (task, num_classes) == (layouts.SEGMENTATION, 1 + len(VOC_CLASS_NAMES)):
        return ("background", *VOC_CLASS_NAMES)
    if (task, num_classes) not in _CLASS_FILES:
        return None
    file = importlib.resources.files(__package__).joinpath(_CLASS_FILES[task, num_classes])
    return tuple(file.read_text(encoding="utf-8").splitlines())


def imagenet_class_names() -> tuple[str, ...]:
    """Returns the 1,000 names in the order of the published classifiers' logits."""
    return published_class_names(layouts.CLASSIFICATION, 1000)


def published_preprocessing(task: str, published: layouts.PublishedInput) -> Preprocessing:
    """Returns how the published models of a task are evaluated.

    Args:
        task: One of `layouts.tasks`.
        published: What their checkpoints want.
    """
    if task in _SIDES:
        return Preprocessing(
            crop_size=_SIDES[task], interpolation=published.interpolation, resize="stretch"
        )
    return Preprocessing(published.short_side, published.crop_size, published.interpolation)


def published_arguments(task: str, attention: str, num_classes: int) -> dict[str, Any]:
    """Returns arguments of `from_variant` that the published models have, and no tensor tells.

    Args:
        task: One of `layouts.tasks`.
        attention: "multi_head" or "separable".
        num_classes: Number of classes.
    """
    if task != layouts.SEGMENTATION:
        return {}
    is_fine = attention == layouts.SEPARABLE and num_classes in _ADE20K
    return {
        "filters": HEAD_FILTERS[attention],
        "dilation_rates": (12, 24, 36) if is_fine else (6, 12, 18),
        "output_stride": 8 if is_fine else 16,
    }
