"""Images from disk to batches: sources, geometry, the schedule of sizes, what `fit` takes."""

import importlib

# TensorFlow takes seconds to import, which whoever reads the table of sources should not wait for.
_EXPORTS = {
    "AdvancedPolicy": "augmentation",
    "DATA_HELP": "sources",
    "EpochAdapter": "adapter",
    "EvaluationDataset": "evaluation",
    "Geometry": "geometry",
    "MultiScaleDataset": "multi_scale",
    "PAPER_SIZES": "scales",
    "Schedule": "scales",
    "SkippedImages": "skipped",
    "Source": "source",
    "Steps": "scales",
    "clear_errors": "skipped",
    "decode_image": "decoding",
    "evaluation_transform": "evaluation",
    "generate_sizes": "scales",
    "is_data_source": "sources",
    "load_images": "evaluation",
    "open_source": "sources",
    "take_images": "evaluation",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
