"""The names of ImageNet-1k's classes."""

import functools
import importlib.resources


@functools.cache
def imagenet_class_names() -> tuple[str, ...]:
    """Returns the 1,000 names in the order of the published classifiers' logits.

    Example:
    >>> imagenet_class_names()[281]
    'tabby'
    """
    text = importlib.resources.files(__package__).joinpath("imagenet_classes.txt")
    return tuple(text.read_text(encoding="utf-8").splitlines())
