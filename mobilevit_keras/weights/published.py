"""What published checkpoints do not say themselves: the names of their classes, and the image."""

import functools
import importlib.resources

from mobilevit_keras.data.sources.voc_folder import CLASS_NAMES as VOC_CLASS_NAMES
from mobilevit_keras.models import Preprocessing
from mobilevit_keras.weights import layouts

# Sides of the square that the whole image is stretched to, in the authors' configurations.
_SIDES = {layouts.SEGMENTATION: 512, layouts.DETECTION: 320}


@functools.cache
def published_class_names(task: str) -> tuple[str, ...]:
    """Returns the names in the order of the published models' logits.

    Args:
        task: One of `layouts.tasks`: of classification they are ImageNet-1k's, of segmentation
            PASCAL VOC's after their background, of detection COCO's.

    Example:
    >>> published_class_names("classification")[281]
    'tabby'
    >>> published_class_names("segmentation")[15]
    'person'
    >>> published_class_names("detection")[79]
    'toothbrush'
    """
    if task == layouts.SEGMENTATION:
        return ("background", *VOC_CLASS_NAMES)
    file = "coco_classes.txt" if task == layouts.DETECTION else "imagenet_classes.txt"
    text = importlib.resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    return tuple(text.splitlines())


def imagenet_class_names() -> tuple[str, ...]:
    """Returns the 1,000 names in the order of the published classifiers' logits."""
    return published_class_names(layouts.CLASSIFICATION)


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
