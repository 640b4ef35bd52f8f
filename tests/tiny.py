"""Models small enough for tests."""

import numpy as np

from mobilevit_keras import (
    MobileViTBackbone,
    MobileViTImageClassifier,
    MobileViTImageSegmenter,
    MobileViTObjectDetector,
)


def randomize(model, seed=0):
    """Moves every weight off its initial value, norms' statistics included."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.path.rsplit("/", 1)[1]
        if name in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif name in ("beta", "bias", "moving_mean"):
            weight.assign(generator.normal(0.0, 0.2, weight.shape))
    return model


def _backbone(**arguments):
    return MobileViTBackbone(
        **{
            "stage_filters": (8, 8, 16, 16, 16),
            "expand_ratio": 2,
            "transformer_dims": (16, 16, 16),
            "num_layers": (1, 2, 1),
            "stem_filters": 8,
            **arguments,
        }
    )


def build_tiny(num_classes=3, class_names=None, preprocessing=None, **backbone):
    """A classifier of MobileViT's shape with a few channels and random norms."""
    return randomize(
        MobileViTImageClassifier(
            _backbone(**backbone),
            num_classes,
            class_names=class_names,
            preprocessing=preprocessing,
        )
    )


def build_tiny_segmenter(num_classes=3, class_names=None, **backbone):
    """A segmenter with a few channels and random norms."""
    return randomize(
        MobileViTImageSegmenter(
            _backbone(**{"output_stride": 16, **backbone}),
            num_classes,
            filters=8,
            class_names=class_names,
        )
    )


def build_tiny_detector(num_classes=3, class_names=None, **backbone):
    """A detector on a backbone with a few channels, and random norms."""
    return randomize(
        MobileViTObjectDetector(_backbone(**backbone), num_classes, class_names=class_names)
    )
