"""Images from disk to batches: sources, geometry, the schedule of sizes, what `fit` takes."""

from mobilevit_keras.data.adapter import EpochAdapter
from mobilevit_keras.data.augmentation import AdvancedPolicy
from mobilevit_keras.data.class_weights import balanced_class_weights
from mobilevit_keras.data.crops import CROPS
from mobilevit_keras.data.decoding import decode_image, image_extensions
from mobilevit_keras.data.evaluation import EvaluationDataset, take_images
from mobilevit_keras.data.geometry import Geometry
from mobilevit_keras.data.images import evaluation_transform, load_images, preprocess, read_image
from mobilevit_keras.data.masks import decode_mask, read_mask
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.scales import Schedule, Steps, generate_sizes
from mobilevit_keras.data.skipped import SkippedImages, clear_errors
from mobilevit_keras.data.source import Source
from mobilevit_keras.data.sources import open_source

__all__ = [
    "CROPS",
    "AdvancedPolicy",
    "EpochAdapter",
    "EvaluationDataset",
    "Geometry",
    "MultiScaleDataset",
    "Schedule",
    "SkippedImages",
    "Source",
    "Steps",
    "balanced_class_weights",
    "clear_errors",
    "decode_image",
    "decode_mask",
    "evaluation_transform",
    "generate_sizes",
    "image_extensions",
    "load_images",
    "open_source",
    "preprocess",
    "read_image",
    "read_mask",
    "take_images",
]
