"""Prints what the models cost beside the published figures.

  python -m train describe
  python -m train describe --size 224 --json

For both generations of MobileViT, the paper's ablations on S, the segmenters, the detectors, and
MobileNetV2: trainable parameters for 1000 classes (segmenters: 21, detectors: 80 and background);
multiply-adds of one image, and the part of them in the attention's two products; activations
(elements that convolutions and products put out). Published multiply-adds and accuracy (of
segmenters the mean IoU, of detectors COCO's mAP) hold for the size in the table's column "at",
whatever --size says.
"""

import argparse
import dataclasses
import json

HELP = "print parameters, multiply-adds and activations beside the published figures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    parser.add_argument(
        "--size", type=int, default=256, metavar="N", help="side of the image (default: 256)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON line for each model")


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    import keras

    from mobilevit_keras.models.statistics import DESCRIBED_MODELS, count

    if not options.json:
        print(
            f"one image of {options.size} x {options.size} pixels, 1000 classes (segmenters: 21, "
            "detectors: 80 and background); M = 1,000,000"
        )
        print(
            f"{'':26} {'parameters':>10} {'multiply-adds':>13} {'attention':>9} {'activations':>11}"
            f"   published: {'parameters':>10} {'multiply-adds':>13} {'attention':>9} {'at':>4} "
            "top-1, mean IoU or mAP"
        )
    for name, described in DESCRIBED_MODELS.items():
        keras.backend.clear_session()
        counted = count(described.build(options.size), options.size)
        published = described.published
        if options.json:
            row = {"model": name, "size": options.size, **dataclasses.asdict(counted)}
            print(json.dumps({**row, "published": dataclasses.asdict(published)}), flush=True)
            continue
        print(
            f"{name:26} {counted.parameters:>10,} {_millions(counted.multiply_adds):>13} "
            f"{_millions(counted.attention_multiply_adds):>9} "
            f"{_millions(counted.activations, 2):>11}   {'':10} "
            f"{_number(published.parameters):>10} {_millions(published.multiply_adds):>13} "
            f"{_millions(published.attention_multiply_adds):>9} {published.size:>4} "
            f"{published.accuracy:>5}",
            flush=True,
        )
    return 0


def _millions(value: int | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value / 1e6:.{digits}f}M"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
