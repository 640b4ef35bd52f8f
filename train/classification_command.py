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
import os
from pathlib import Path

from train import config as configuration

HELP = "train an image classifier"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"where the values come from: {', '.join(configuration.recipe_names())}, or a YAML "
        "file with this command's flags as keys",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="take the recipe's smoke values: proves that it runs, in seconds",
    )
    configuration.add_arguments(parser)


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    if options.smoke and not options.recipe:
        raise ValueError("`--smoke` takes the smoke values of a recipe. Received: no --recipe.")
    saved = Path(getattr(options, "output", "")) / "config.yaml"
    if options.recipe:
        values = configuration.load_recipe(options.recipe, options.smoke)
    elif getattr(options, "resume", False) and saved.is_file():
        values = configuration.load_recipe(str(saved))
    else:
        values = {}
    config = configuration.from_options(values, options)
    for name in ("data", "output"):
        if not getattr(config, name):
            raise ValueError(f"`--{name}` must be given. See --help.")
    from mobilevit_keras.training.checkpoints import Preempted
    from train import assembly

    try:
        assembly.open_run(config).fit()
    except Preempted as stop:
        print(stop)
        return os.EX_TEMPFAIL
    except FloatingPointError as error:
        print(f"error: {error}")
        return 1
    return 0
