"""What a person gets from Keras, TensorFlow and tensorflowjs alone, without this package's export.

The yardstick of the benchmarks: the unfolded model, its norms as Keras writes them.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilevit_keras.export.conversion import convert
from mobilevit_keras.models import MobileViTImageClassifier, load_model


def _saved_model(model: MobileViTImageClassifier, size: int, directory: str) -> None:
    image = tf.TensorSpec((1, size, size, 3), tf.float32, name="image")
    model.export(directory, input_signature=[image], verbose=False)


def plain_tflite(model: MobileViTImageClassifier, path: str | Path, size: int) -> None:
    """Writes a float32 `.tflite` file: images in [0, 1] in, logits out."""
    with tempfile.TemporaryDirectory() as directory:
        _saved_model(model, size, directory)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory)
        Path(path).write_bytes(converter.convert())


def plain_full_int8(
    model: MobileViTImageClassifier, path: str | Path, size: int, images: np.ndarray
) -> None:
    """Writes the plain converter's full-int8 `.tflite` file: every operation it can, in int8.

    Args:
        model: The trained classifier.
        path: The file.
        size: Side of the input.
        images: Calibration images, `(N, size, size, 3)` in [0, 1].
    """
    with tempfile.TemporaryDirectory() as directory:
        _saved_model(model, size, directory)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        Path(path).write_bytes(converter.convert())


def plain_tfjs(model: MobileViTImageClassifier, directory: str | Path, size: int) -> None:
    """Writes a TF.js graph model: images in [0, 1] in, logits out."""
    with tempfile.TemporaryDirectory() as saved_model:
        _saved_model(model, size, saved_model)
        convert("tfjs", Path(saved_model), Path(directory), {})


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", metavar="MODEL.keras")
    parser.add_argument("output", help="OUT.tflite, or a folder for TF.js")
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    if options.output.endswith(".tflite"):
        plain_tflite(model, options.output, options.size)
    else:
        plain_tfjs(model, options.output, options.size)


if __name__ == "__main__":
    main(sys.argv[1:])
