"""Trains an object detector with Keras `fit` on batches of one size or several.

  python -m train detection --data scenes --recipe scenes_detection --output runs/scenes_detection
  python -m train detection --data voc:cells --variant mobilevit_xs \\
      --base-size 320 --batch-size 16 --epochs 200 --output runs/cells

Boxes come from PASCAL VOC's folders, COCO's JSON files, tensorflow_datasets or TFRecord shards;
images without boxes are trained on too. Values come from the recipe, then from the flags. The run's
folder gets the final configuration, the averaged weights with class names and preprocessing
(model.keras), log.csv, TensorBoard logs, curves.png and checkpoints. After every epoch COCO's mean
average precision of the validation images is logged: val_map, which chooses best.keras, val_map50
and val_map75. After a crash

  python -m train detection --output runs/cells --resume

goes on from the last checkpoint with the run's own configuration, to the bit. --resume also begins
a run that has no checkpoint yet, so that a queue can start one and the same command again and
again. SIGTERM and Ctrl-C end a training after its next step and a checkpoint, with exit status 75:
not finished. 0 is finished, 1 a loss that is no number any more, 2 a mistake, 130 a second Ctrl-C.

Weights of a detector are trained on, with new classes where the data have others; of a classifier
the backbone is, as in the paper, whose recipe this is:

  python -m train detection --recipe ssd_coco --weights mobilevit_s.cvnets_in1k \\
      --data coco:coco --output runs/coco

and for a few hundred images of one's own:

  python -m train detection --recipe finetune_detection --weights mobilevit_s.cvnets_in1k \\
      --data voc:cells --output runs/cells
"""

import argparse

from train import training
from train.config import DetectionConfig

HELP = "train an object detector"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    training.add_arguments(parser, DetectionConfig)


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    return training.train(options, DetectionConfig)
