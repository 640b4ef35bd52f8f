"""Writes a trained model as a .tflite file for phones, checked against Keras.

The file takes RGB images in 0..255, gives a classifier's probabilities, a segmenter's logits at its
output stride or what each anchor of a detector says, and says in its own metadata what it is: class
names, preprocessing, precision. NAME.labels.txt and NAME.report.json are copies for people. A file
that does not agree with Keras is not left, and the exit status is 1.

With --heat-map a classifier's file has a second output, heat_map, of shape (1, h, w, classes):
where in the image each class's score comes from. In int8 it is computed in float.

  float32    as trained
  float16    half the size; for GPUs, and processors that compute in half precision
  dynamic    a quarter of the size: int8 weights, float values between operations
  int8       a quarter of the size, for phones' CPUs: int8 convolutions and dense layers, the rest
             in float. From a float model (with --calibration) or a quantization-aware one
  int8_full  everything in int8, for NPUs that need it; costs accuracy and is slow on CPUs
"""

import argparse

from convert import exporting

HELP = "write a .tflite file for phones"
KEEPS_LIBRARIES_QUIET = True
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8_full")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    exporting.add_arguments(parser, "OUT.tflite", PRECISIONS)
    parser.add_argument(
        "--calibration",
        metavar="SOURCE",
        help="images to measure ranges on, for a float model in int8 or int8_full: a data source "
        "such as folder:PATH (256 of its training images are taken), or a folder",
    )
    parser.add_argument(
        "--input",
        default="float32",
        dest="input_type",
        metavar="float32|uint8",
        help="type of the input, of int8 and int8_full (default: float32)",
    )

    parser.add_argument(
        "--suppression",
        default="runtime",
        metavar="runtime|in-file",
        help="who suppresses a detector's boxes that lie on each other: whoever runs the file, as "
        "MediaPipe Tasks does (default), or the file itself, as older programs want it",
    )


def main(options: argparse.Namespace) -> int:
    from mobilevit_keras.export import export_tflite

    return exporting.run_export(
        options,
        export_tflite,
        calibration=options.calibration,
        input_type=options.input_type,
        suppression=options.suppression,
    )
