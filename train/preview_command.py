"""Draws a contact sheet of the first training batches, at the sizes in which they are trained.

  python -m train preview --recipe digits --output digits.png
  python -m train preview --data folder:photos --augmentation advanced --output photos.png
  python -m train preview --data masks:streets --base-size 256 --output streets.png
  python -m train preview --data voc:cells --base-size 320 --output cells.png

One row for each batch: its step, its number of images and their size, and the first of them with
what their records say of them: classes (of a mixed image the two largest parts), masks or boxes.
What the images are for is what the recipe says, or --task, or else what the data are made for.
"""

import argparse

from train import flags
from train.config import CONFIGS

HELP = "draw a picture of training batches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    flags.add_recipe_argument(parser)
    flags.add_task_argument(parser)
    parser.add_argument(
        "--output",
        required=True,
        dest="picture",
        metavar="FILE",
        help="the picture to write; its extension says the format",
    )
    parser.add_argument("--epoch", type=int, default=0, metavar="E", help="from 0 (default: 0)")
    parser.add_argument(
        "--batches", type=int, default=6, metavar="N", help="how many rows (default: 6)"
    )
    parser.add_argument(
        "--images-per-batch", type=int, default=8, metavar="N", help="at most (default: 8)"
    )
    configs = CONFIGS.values()
    names = {name for config in configs for name in ("data", *config.BATCHES)}
    flags.add_arguments(parser, configs, names)


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    config = flags.of_any_task(options)
    if not config.data:
        raise ValueError("`--data` must be given. See --help.")
    if options.epoch < 0:
        raise ValueError(f"`--epoch` must not be negative. Received: {options.epoch}.")
    from mobilevit_keras.data import MultiScaleDataset
    from mobilevit_keras.data.preview import preview
    from train.assembly import open_training_source

    task, source = config.open_task(), open_training_source(config)
    if source.left_out:
        print(source.left_out)
    values = {name: getattr(config, name) for name in config.BATCHES}
    dataset = MultiScaleDataset(source, **values)
    preview(
        dataset,
        options.picture,
        lambda target: task.captions(target, source.class_names),
        options.batches,
        epoch=options.epoch,
        images_per_batch=options.images_per_batch,
    )
    if dataset.skipped.count:
        print(dataset.skipped)
    print(f"saved {options.picture}")
    return 0
