"""Classifies image files by a Keras model, prepared as its weights want them.

python -m convert predict runs/photos/model.keras holiday/*.jpg --top 3
"""

import argparse
from pathlib import Path

HELP = "classify image files by a .keras model, a checkpoint or a preset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to `parser`."""
    parser.add_argument("model", metavar="MODEL", help=".keras model, checkpoint or preset")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: 5)")
    parser.add_argument("--batch-size", type=int, default=32, help="images at once (default: 32)")


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from mobilevit_keras.inference import predict_images
    from mobilevit_keras.weights import load_weights_or_preset

    model = load_weights_or_preset(options.model)
    for path, answers in predict_images(model, options.images, options.batch_size, options.top):
        listed = ", ".join(f"{name} {probability:.3f}" for name, probability in answers)
        print(f"{path}: {listed}")
    return 0
