"""One training of a tiny model through the train command's own code, as a process of its own.

python -m tests.training.distributed_run DISTRIBUTE PHOTOS OUTPUT [--resume]
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from tests.tiny import build_tiny
from train import fit
from train.config import ClassificationConfig


def tiny_model(config: ClassificationConfig, class_names):
    """Without dropout, whose random numbers every replica draws for itself."""
    model = build_tiny(len(class_names), class_names, num_layers=(1, 1, 1), dropout=0.0)
    model.head.drop.rate = 0.0
    return model


def run(distribute: str, photos: str, output: str, resume: bool = False):
    """Trains for three epochs of a few steps; returns the model."""
    config = ClassificationConfig(
        data=f"folder:{photos}",
        distribute=distribute,
        # Batches of 8 and 2: even ones, which two replicas share without rounding.
        sizes=(32, 64),
        base_size=32,
        batch_size=8,
        epochs=3,
        # Small: AdamW makes whole steps of gradients that are nothing but rounding.
        initial_learning_rate=0.00002,
        peak_learning_rate=0.00003,
        ema_decay=0.5,
        evaluation_batch_size=3,
        checkpoint_every=2,
        verbose=0,
        resume=resume,
    )
    return fit.train_classifier(config, Path(output))


if __name__ == "__main__":
    fit.build_model = tiny_model
    if sys.argv[1] == "mirrored":
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    run(*sys.argv[1:4], resume="--resume" in sys.argv)
