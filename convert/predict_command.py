"""Answers to image files by a Keras model, prepared as its weights want them.

python -m convert predict runs/photos/model.keras holiday/*.jpg --top 3
python -m convert predict runs/streets/model.keras holiday/*.jpg --output masks
python -m convert predict runs/animals/model.keras holiday/*.jpg --output boxes --score 0.5

A classifier gives class names and probabilities. A segmenter gives the classes that an image shows
and their shares of it; with --output also NAME.mask.png, the class number of every pixel with a
palette, and NAME.overlay.jpg, the image with the classes' colours laid over it. A detector gives a
line of JSON for each image: its size and the boxes in its pixels, the surest first; with --output
also NAME.boxes.jpg, the image with the boxes. A file that cannot be read is named and left out; the
exit status is 2 then.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from convert.answering import print_answers

HELP = "classify image files, segment them or find objects, by a .keras model or a preset"
KEEPS_LIBRARIES_QUIET = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to `parser`."""
    parser.add_argument("model", metavar="MODEL", help=".keras model, checkpoint or preset")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: 5)")
    parser.add_argument(
        "--batch-size", type=int, help="images at once (default: 32, of other tasks 8)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write a segmenter's or detector's pictures here",
    )
    parser.add_argument(
        "--score", type=float, help="what a detector's box must be sure of (default: 0.3)"
    )
    parser.add_argument(
        "--rule",
        metavar="paper|mediapipe",
        help="how boxes that lie on each other go: in each class by itself (paper, the "
        "default), or whatever their classes",
    )


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status: 2 where a file could not be read."""
    from mobilevit_keras.weights import load_weights_or_preset

    model = load_weights_or_preset(options.model)
    return print_answers(lambda unreadable: _lines(model, options, unreadable), len(options.images))


def _lines(model, options: argparse.Namespace, unreadable) -> Iterator[str]:
    """Yields for each file what to print of it."""
    from mobilevit_keras import inference
    from mobilevit_keras.models import MobileViTImageSegmenter, MobileViTObjectDetector

    common = {"unreadable": unreadable}
    if options.batch_size is not None:
        common["batch_size"] = options.batch_size
    if isinstance(model, MobileViTObjectDetector):
        given = {"score_threshold": options.score, "rule": options.rule}
        common |= {name: value for name, value in given.items() if value is not None}
        for image in inference.iterate_detected(model, options.images, options.output, **common):
            yield json.dumps(image.as_json(), ensure_ascii=False)
        return
    if (options.score, options.rule) != (None, None):
        raise ValueError(
            f"--score and --rule are a detector's. Received: a {type(model).__name__}."
        )
    if isinstance(model, MobileViTImageSegmenter):
        if options.top < 1:
            raise ValueError(f"`top` must be positive. Received: {options.top}.")
        for image in inference.iterate_segmented(model, options.images, options.output, **common):
            shares = image.shares()[: options.top]
            yield f"{image.path}: {', '.join(f'{name} {share:.1%}' for name, share in shares)}"
        return
    if options.output is not None:
        raise ValueError(
            "--output takes a segmenter's or detector's pictures. "
            f"Received: a {type(model).__name__}."
        )
    for path, pairs in inference.iterate_predictions(
        model, options.images, top=options.top, **common
    ):
        yield f"{path}: {', '.join(f'{name} {share:.3f}' for name, share in pairs)}"
