"""The train command with a tiny model and short epochs, as a process of its own.

python -m tests.training.distributed_run --distribute … --data folder:… --output … [--resume]
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from mobilevit_keras import commands
from tests.tiny import build_tiny
from train import assembly
from train.__main__ import main
from train.config import ClassificationConfig

# Batches of 8 and 2: even ones, which two replicas share without rounding. Rates are small: AdamW
# makes whole steps of gradients that are nothing but rounding.
FLAGS = [
    "--sizes", "32", "64", "--base-size", "32", "--batch-size", "8", "--epochs", "3",
    "--initial-learning-rate", "0.00002", "--peak-learning-rate", "0.00003", "--ema-decay", "0.5",
    "--evaluation-batch-size", "3", "--checkpoint-every", "2", "--verbose", "0",
]  # fmt: skip


def tiny_model(config: ClassificationConfig, class_names):
    """Without dropout, whose random numbers every replica draws for itself."""
    model = build_tiny(len(class_names), class_names, num_layers=(1, 1, 1), dropout=0.0)
    model.head.drop.rate = 0.0
    return model


def run(*arguments) -> int:
    """Runs the command with `FLAGS` and then the arguments; returns its exit status."""
    return commands.run(main, ["classification", *FLAGS, *map(str, arguments)])


def split_processor() -> None:
    """Makes two devices of the processor."""
    processor = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, halves)


if __name__ == "__main__":
    assembly.build_model = tiny_model
    if "mirrored" in sys.argv:
        split_processor()
    sys.exit(run(*sys.argv[1:]))
