"""Draws where in image files a classifier's answer comes from, by a Keras model.

python -m convert explain holiday/*.jpg --model runs/photos/model.keras --output heat
python -m convert explain holiday/1.jpg --model runs/photos/model.keras --output heat --class dog
python -m convert explain holiday/1.jpg --model mobilevit_s.cvnets_in1k --output heat --attention

For each image it writes NAME.heat.jpg: from red to yellow where the most probable class, or the one
that --class names, has more of a score than the mean of all classes has. The classifier is linear
behind the mean over all places, so these scores are no estimate: their mean are the logits. What is
dark was cut off before the model looked.

With --attention also NAME.P3.jpg to NAME.P5.jpg: how much attention each place receives in the
blocks of stages 3 to 5, the mean over all queries, heads and layers. It says what the transformers
look at, of whatever class.

A file that cannot be read is named and left out; the exit status is 2 then. An exported file gives
the same map of scores where it was written with --heat-map.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from convert.answering import print_answers

HELP = "draw where in image files a classifier's answer comes from"
KEEPS_LIBRARIES_QUIET = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to `parser`."""
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument(
        "--model", required=True, help="a classifier: .keras model, checkpoint or preset"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="write the pictures here"
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="the class to draw (default: each image's most probable one)",
    )
    parser.add_argument(
        "--attention", action="store_true", help="draw the attention in each block too"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="images at once (default: 8)")


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status: 2 where a file could not be read."""
    from mobilevit_keras.inference import iterate_explained
    from mobilevit_keras.weights import load_weights_or_preset

    model = load_weights_or_preset(options.model)

    def lines(unreadable) -> Iterator[str]:
        for image in iterate_explained(
            model,
            options.images,
            options.output,
            options.class_name,
            options.attention,
            options.batch_size,
            unreadable,
        ):
            name, share = image.class_names[image.chosen], image.probabilities[image.chosen]
            yield f"{image.path}: {name} {share:.3f}, {image.pictures[0]}"

    return print_answers(lines, len(options.images))
