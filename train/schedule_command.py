"""Prints the schedule of image sizes and batches that a training would follow.

  python -m train schedule --recipe mobilevit_imagenet --images 1281167
  python -m train schedule --recipe digits --data digits --epoch 3 --steps 10

For an epoch: how many steps and images there are at each size. With --steps, the first steps of the
epoch one by one: step, height, width, batch. The schedule depends on nothing else than what is
given here, so it is the same on every replica and worker.
"""

import argparse

from train import flags
from train.config import CONFIGS, SIZES_AND_BATCHES

HELP = "print the sizes and batches of an epoch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    flags.add_recipe_argument(parser)
    flags.add_task_argument(parser)
    parser.add_argument(
        "--images", type=int, metavar="N", help="training images; by default those of --data"
    )
    parser.add_argument("--epoch", type=int, default=0, metavar="E", help="from 0 (default: 0)")
    parser.add_argument(
        "--steps", type=int, default=0, metavar="N", help="how many steps to list (default: 0)"
    )
    parser.add_argument(
        "--replicas", type=int, default=1, metavar="N", help="that share a batch (default: 1)"
    )
    names = ("data", *SIZES_AND_BATCHES)
    flags.add_arguments(parser, CONFIGS.values(), names)


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    config = flags.of_any_task(options)
    if options.images is None and not config.data:
        raise ValueError("`--images` or `--data` must be given. See --help.")
    if options.epoch < 0 or options.steps < 0:
        raise ValueError(
            "`--epoch` and `--steps` must not be negative. "
            f"Received: {options.epoch} and {options.steps}."
        )
    from mobilevit_keras.data import Schedule

    values = {name: getattr(config, name) for name in SIZES_AND_BATCHES}
    schedule = Schedule(**values, num_shards=options.replicas)
    count = options.images
    if count is None:
        from train.assembly import open_training_source

        count = open_training_source(config).num_examples("train")
    print(schedule.describe(options.epoch, count))
    steps = schedule.epoch(options.epoch, count)
    if options.steps:
        print(f"\n{'step':>6} {'height':>6} {'width':>6} {'batch':>6}")
    for step in range(min(options.steps, len(steps))):
        print(
            f"{step:>6} {steps.heights[step]:>6} {steps.widths[step]:>6} "
            f"{steps.batch_sizes[step]:>6}"
        )
    return 0
