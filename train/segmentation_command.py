"""Trains an image segmenter with Keras `fit` on multi-scale batches.

  python -m train segmentation --data scenes --recipe scenes --output runs/scenes
  python -m train segmentation --data masks:streets --variant mobilevit_xs \\
      --sizes 256 320 384 --base-size 320 --batch-size 8 --epochs 100 --output runs/streets

A folder of masks has `images` and, with the same names, `masks`: PNG files of class numbers, or
with a palette; 255 is a pixel of no class. Values come from the recipe, then from the flags. The
run's folder gets the final configuration, the averaged weights with class names and preprocessing
(model.keras), log.csv, TensorBoard logs, curves.png and checkpoints. After a crash

  python -m train segmentation --output runs/streets --resume

goes on from the last checkpoint with the run's own configuration, to the bit. --resume also begins
a run that has no checkpoint yet, so that a queue can start one and the same command again and
again. SIGTERM and Ctrl-C end a training after its next step and a checkpoint, with exit status 75:
not finished. 0 is finished, 1 a loss that is no number any more, 2 a mistake, 130 a second Ctrl-C.

Weights of a segmenter are trained on with a new last layer; of a classifier the backbone is, as in
the paper, whose recipe this is:

  python -m train segmentation --recipe deeplabv3_voc --weights mobilevit_s.cvnets_in1k \\
      --data voc-segmentation:VOCdevkit/VOC2012 --output runs/voc

and for a few hundred images of one's own:

  python -m train segmentation --recipe finetune_segmentation --weights mobilevit_s.cvnets_in1k \\
      --data masks:streets --output runs/streets
"""

import argparse

from train import training
from train.config import SegmentationConfig

HELP = "train an image segmenter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    training.add_arguments(parser, SegmentationConfig)


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    return training.train(options, SegmentationConfig)
