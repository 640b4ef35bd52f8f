"""The float training that the benchmarks on a few thousand small images share."""

import dataclasses
from pathlib import Path

from train.assembly import open_run
from train.config import ClassificationConfig


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
    config = dataclasses.replace(config, output=str(folder), resume=True)
    open_run(config).fit()
