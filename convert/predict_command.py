"""Classifies image files by a Keras model, prepared as its weights want them.

python -m convert predict runs/photos/model.keras holiday/*.jpg --top 3

A file that cannot be read is named and left out; the exit status is 2 then.
"""

import argparse
import sys
from pathlib import Path

HELP = "classify image files by a .keras model, a checkpoint or a preset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to `parser`."""
    parser.add_argument("model", metavar="MODEL", help=".keras model, checkpoint or preset")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: 5)")
    parser.add_argument("--batch-size", type=int, default=32, help="images at once (default: 32)")


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status: 2 where a file could not be read."""
    from mobilevit_keras.inference import iterate_predictions
    from mobilevit_keras.weights import load_weights_or_preset

    bad = []

    def unreadable(path: Path, error: Exception) -> None:
        bad.append(path)
        print(f"error: {error}", file=sys.stderr)

    model = load_weights_or_preset(options.model)
    for path, answers in iterate_predictions(
        model, options.images, options.batch_size, options.top, unreadable
    ):
        listed = ", ".join(f"{name} {probability:.3f}" for name, probability in answers)
        print(f"{path}: {listed}", flush=True)
    if bad:
        print(f"{len(bad)} of {len(options.images)} files could not be read", file=sys.stderr)
    return 2 if bad else 0
