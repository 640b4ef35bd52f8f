"""The float training that the benchmarks on a few thousand small images share."""

import dataclasses
from pathlib import Path

from mobilevit_keras.training.checkpoints import list_checkpoints
from mobilevit_keras.training.run_folder import RunFolder
from train.config import ClassificationConfig
from train.fit import train_classifier


def small_config(data: str, variant: str, size: int, epochs: int, seed: int, **more):
    """A `ClassificationConfig` for one size; `more` are further fields of it."""
    config = ClassificationConfig(
        data=data,
        variant=variant,
        sampler="fixed",
        sizes=(size,),
        base_size=size,
        batch_size=64,
        crop_area=(0.35, 1.0),
        epochs=epochs,
        warmup_steps=100,
        final_learning_rate=0.00002,
        ema_decay=0.99,
        evaluation_short_side=size,
        evaluation_crop_size=size,
        seed=seed,
        verbose=0,
    )
    return dataclasses.replace(config, **more)


def train_or_go_on(config: ClassificationConfig, folder: Path) -> None:
    """Trains into `folder`, from the last checkpoint of a run that was broken off there."""
    has_begun = bool(list_checkpoints(RunFolder(folder).checkpoints))
    train_classifier(dataclasses.replace(config, resume=has_begun, overwrite=not has_begun), folder)
