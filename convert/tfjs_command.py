"""Writes a trained model as a TF.js graph model for browsers, checked against Keras.

The model takes RGB images in 0..255, gives a classifier's probabilities, a segmenter's logits at
its output stride or what each anchor of a detector says, and says in model.json what it is. Its
folder also holds labels.txt and report.json for people, and nothing else: a folder with other files
is not replaced. A model that does not agree with Keras is not left, and the exit status is 1. With
--heat-map a classifier also says where in the image each class's score comes from.
"""

import argparse

from convert import exporting

HELP = "write a TF.js model for browsers"
KEEPS_LIBRARIES_QUIET = True
PRECISIONS = ("float32", "float16", "uint8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    exporting.add_arguments(parser, "OUT_DIR", PRECISIONS)


def main(options: argparse.Namespace) -> int:
    from mobilevit_keras.export import export_tfjs

    return exporting.run_export(options, export_tfjs)
