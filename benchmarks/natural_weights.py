"""Untrained models whose answers differ as those of trained ones do.

A fresh network lets its signal die on the way: all places of all images look alike but for one part
in 100,000, and whatever a file did to them would go unnoticed, or an honest rounding would not.
"""

import keras
import numpy as np

from mobilevit_keras import (
    MobileViTImageClassifier,
    MobileViTImageSegmenter,
    MobileViTObjectDetector,
)
from mobilevit_keras.export.check_images import generated_images, open_check_images
from mobilevit_keras.layers import BatchNorm, SSDLiteHead
from mobilevit_keras.models import Preprocessing, VisionTask

BACKGROUND_LEAD = 8.0
"""By how much background leads a detector's 80 classes in the logits of an anchor."""


def natural_classifier(variant: str, size: int = 256) -> MobileViTImageClassifier:
    """Returns a classifier whose norms have the statistics of photographs and varied scales.

    Args:
        variant: Name in `mobilevit_keras.models.VARIANTS`.
        size: Side of the photographs.
    """
    preprocessing = Preprocessing(size, size)
    model = MobileViTImageClassifier.from_variant(variant, preprocessing=preprocessing)
    generator = np.random.default_rng(0)
    vary_norms(model, generator)
    kernel = model.head.classifier.kernel
    kernel.assign(generator.normal(0.0, 2.0 / kernel.shape[-2] ** 0.5, kernel.shape))
    set_norms(model, _images(model, size))
    return model


def natural_segmenter(variant: str, num_classes: int, size: int = 256) -> MobileViTImageSegmenter:
    """Returns such a segmenter.

    Args:
        variant: Name in `mobilevit_keras.models.VARIANTS`.
        num_classes: Number of classes.
        size: Side of the photographs.
    """
    preprocessing = Preprocessing(crop_size=size, resize="stretch")
    model = MobileViTImageSegmenter.from_variant(variant, num_classes, preprocessing=preprocessing)
    generator = np.random.default_rng(0)
    vary_norms(model, generator)
    kernel = model.head.classifier.kernel
    kernel.assign(generator.normal(0.0, 2.0 / kernel.shape[2] ** 0.5, kernel.shape))
    set_norms(model, _images(model, size))
    return model


def natural_detector(variant: str, num_classes: int, size: int = 320) -> MobileViTObjectDetector:
    """Returns such a detector, which takes most anchors of an image for background.

    Args:
        variant: Name in `mobilevit_keras.models.VARIANTS`.
        num_classes: Number of classes.
        size: Side of the photographs.
    """
    preprocessing = Preprocessing(crop_size=size, resize="stretch")
    model = MobileViTObjectDetector.from_variant(variant, num_classes, preprocessing=preprocessing)
    generator = np.random.default_rng(0)
    vary_norms(model, generator)
    images = _images(model, size)
    set_norms(model, images)
    for layer in model.layers:
        if isinstance(layer, SSDLiteHead):
            for convolution, spread in ((layer.boxes, 1.0), (layer.logits, 1.5)):
                kernel = convolution.kernel
                kernel.assign(generator.normal(0.0, spread / kernel.shape[2] ** 0.5, kernel.shape))
            # Of each anchor's classes background comes first.
            bias = np.zeros((layer.num_anchors, layer.num_outputs), "float32")
            bias[:, 0] = BACKGROUND_LEAD
            layer.logits.bias.assign(bias.ravel())
    return model


def vary_norms(model: keras.Model, generator: np.random.Generator) -> None:
    """Gives norms the varied scales and offsets of trained ones."""
    for layer in model._flatten_layers():
        if isinstance(layer, (BatchNorm, keras.layers.LayerNormalization)):
            layer.gamma.assign(generator.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(generator.normal(0.0, 0.2, layer.beta.shape))


def _images(model: VisionTask, size: int) -> np.ndarray:
    photographs = open_check_images(None, size, size, model.preprocessing)
    return np.concatenate([photographs, generated_images(size, size)]) / 255.0


def set_norms(model: keras.Model, images: np.ndarray) -> None:
    """Gives a model's batch norms the statistics that images in [0, 1] have in them."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    # In training each layer sees its images by the statistics of the batch, and keeps these.
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
