"""What the commands that train have in common, whatever they train."""

import argparse
import os
from pathlib import Path

from train import flags
from train.config import Config
from train.recipe_files import load_recipe, recipe_names


def add_arguments(parser: argparse.ArgumentParser, config: type[Config]) -> None:
    """Adds the flags of a training to `parser`."""
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"where the values come from: {', '.join(recipe_names(config.task))}, "
        "or a YAML file with this command's flags as keys",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="take the recipe's smoke values: proves that it runs, in seconds",
    )
    flags.add_arguments(parser, [config])


def train(options: argparse.Namespace, config: type[Config]) -> int:
    """Trains what the flags say; returns the command's exit status.

    Args:
        options: The flags.
        config: The task's configuration.
    """
    if options.smoke and not options.recipe:
        raise ValueError("`--smoke` takes the smoke values of a recipe. Received: no --recipe.")
    saved = Path(getattr(options, "output", "")) / "config.yaml"
    if options.recipe:
        values = load_recipe(options.recipe, options.smoke, config.task)
    elif getattr(options, "resume", False) and saved.is_file():
        values = load_recipe(str(saved), task=config.task)
    else:
        values = {"task": config.task}
    final = flags.from_options(values, options)
    for name in ("data", "output"):
        if not getattr(final, name):
            raise ValueError(f"`--{name}` must be given. See --help.")
    from mobilevit_keras.training.checkpoints import Preempted
    from train import assembly

    try:
        assembly.open_run(final).fit()
    except Preempted as stop:
        print(stop)
        return os.EX_TEMPFAIL
    except FloatingPointError as error:
        print(f"error: {error}")
        return 1
    return 0
