"""Trains an image classifier with Keras `fit` on multi-scale batches.

  python -m train classification --data digits --recipe digits --output runs/digits
  python -m train classification --data folder:photos --variant mobilevit_xs \\
      --sizes 160 192 224 256 --base-size 224 --batch-size 32 --epochs 60 --output runs/photos

A folder of photos has one folder for each class, or `train` and `validation` folders of such.
Values come from the recipe, then from the flags. The run's folder gets the final configuration,
the averaged weights with class names and preprocessing (model.keras), log.csv, TensorBoard logs,
curves.png and checkpoints. After a crash

  python -m train classification --output runs/photos --resume

goes on from the last checkpoint with the run's own configuration, to the bit. --resume also begins
a run that has no checkpoint yet, so that a queue can start one and the same command again and
again. SIGTERM and Ctrl-C end a training after its next step and a checkpoint, with exit status 75:
not finished. 0 is finished, 1 a loss that is no number any more, 2 a mistake, 130 a second Ctrl-C.

A model that has learned already needs fewer images and less time:

  python -m train classification --recipe finetune --weights mobilevit_s.cvnets_in1k \\
      --data folder:photos --output runs/photos
"""

import argparse

from train import training
from train.config import ClassificationConfig

HELP = "train an image classifier"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    training.add_arguments(parser, ClassificationConfig)


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    return training.train(options, ClassificationConfig)
