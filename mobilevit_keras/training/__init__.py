"""What `fit` needs for the paper's recipe: optimizer, average of the weights, checkpoints, logs."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobilevit_keras.training.average import ExponentialMovingAverage
    from mobilevit_keras.training.checkpoints import Checkpoints, Preempted
    from mobilevit_keras.training.distillation import distill_from
    from mobilevit_keras.training.optimizer import (
        AdamW,
        LossScaleOptimizer,
        paper_optimizer,
        warmup_cosine,
    )
    from mobilevit_keras.training.recipe import Recipe
    from mobilevit_keras.training.run import Run

# A command's `--help` reads the recipe's defaults, and should not wait for TensorFlow.
_MODULES = {
    "AdamW": "optimizer",
    "Checkpoints": "checkpoints",
    "ExponentialMovingAverage": "average",
    "LossScaleOptimizer": "optimizer",
    "Preempted": "checkpoints",
    "Recipe": "recipe",
    "Run": "run",
    "distill_from": "distillation",
    "paper_optimizer": "optimizer",
    "warmup_cosine": "optimizer",
}

__all__ = [
    "AdamW",
    "Checkpoints",
    "ExponentialMovingAverage",
    "LossScaleOptimizer",
    "Preempted",
    "Recipe",
    "Run",
    "distill_from",
    "paper_optimizer",
    "warmup_cosine",
]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
