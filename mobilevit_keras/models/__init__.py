"""MobileViT backbones and the models on them."""

from mobilevit_keras.models.backbone import MobileViTBackbone
from mobilevit_keras.models.classes import class_names_of
from mobilevit_keras.models.image_classifier import MobileViTImageClassifier
from mobilevit_keras.models.image_segmenter import MobileViTImageSegmenter
from mobilevit_keras.models.loading import load_model
from mobilevit_keras.models.object_detector import MobileViTObjectDetector
from mobilevit_keras.models.preprocessing import Preprocessing
from mobilevit_keras.models.transfer import freeze, replace_classifier
from mobilevit_keras.models.variants import VARIANTS, Variant, get_variant
from mobilevit_keras.models.vision_task import VisionTask

__all__ = [
    "VARIANTS",
    "MobileViTBackbone",
    "MobileViTImageClassifier",
    "MobileViTImageSegmenter",
    "MobileViTObjectDetector",
    "Preprocessing",
    "Variant",
    "VisionTask",
    "class_names_of",
    "freeze",
    "get_variant",
    "load_model",
    "replace_classifier",
]
