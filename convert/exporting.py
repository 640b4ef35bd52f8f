"""What the two export commands have in common."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobilevit_keras.commands import parse_size


def add_arguments(
    parser: argparse.ArgumentParser, output: str, precisions: tuple[str, ...]
) -> None:
    """Adds the arguments of an export command."""
    parser.add_argument("model", type=Path, metavar="MODEL.keras", help="a trained model")
    parser.add_argument("output", type=Path, metavar=output, help="what to write")
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="SIDE|HxW",
        help="input size in pixels (default: the model's crop size)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="|".join(precisions),
        help="how numbers are stored (default: float32)",
    )
    parser.add_argument(
        "--images",
        metavar="SOURCE",
        help="what to compare with Keras on: an image file, a folder, or a data source such as "
        "digits (default: the samples beside the model, else two photographs)",
    )
    parser.add_argument(
        "--heat-map",
        action="store_true",
        help="of a classifier: also give heat_map, the score of each class at each place before "
        "pooling, whose mean over the places are the logits; the page draws it",
    )


def run_export(
    options: argparse.Namespace, export: Callable[..., dict[str, Any]], **more: Any
) -> int:
    """Exports, prints what came of it and returns the exit status: 1 where a check failed."""
    from mobilevit_keras.export import CheckError
    from mobilevit_keras.models import load_model

    model = load_model(options.model)
    samples = options.model.parent / "samples"
    images = options.images
    if images is None and samples.is_dir():
        images = samples
    try:
        size = options.size or model.preprocessing.sides
        more |= {"heat_map": options.heat_map}
        report = export(model, options.output, size, options.precision, images, **more)
    except CheckError as error:
        print(f"check failed: {error} Nothing was written.", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{options.output}: {report['precision']}, {report['size'][0]}x{report['size'][1]}, "
        f"{report['bytes'] / 1e6:.2f} MB. Against Keras: {report['parity']['summary']}."
    )
    if "float_parity" in report:
        print(f"Against the float model: {report['float_parity']['summary']}.")
    return 0
