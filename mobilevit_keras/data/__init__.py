"""Images from disk to batches: sources, transforms, the schedule of sizes and the pipelines."""

from mobilevit_keras.data.augmentation import AdvancedPolicy
from mobilevit_keras.data.evaluation import evaluation_dataset
from mobilevit_keras.data.pipeline import TrainingPipeline
from mobilevit_keras.data.scales import Schedule, Steps, generate_sizes
from mobilevit_keras.data.skipped import SkippedImages, clear_errors
from mobilevit_keras.data.sources import Source, open_source
from mobilevit_keras.data.transforms import decode_image, evaluation_transform, load_images

__all__ = [
    "AdvancedPolicy",
    "Schedule",
    "SkippedImages",
    "Source",
    "Steps",
    "TrainingPipeline",
    "clear_errors",
    "decode_image",
    "evaluation_dataset",
    "evaluation_transform",
    "generate_sizes",
    "load_images",
    "open_source",
]
