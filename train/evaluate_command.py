"""Measures a model on the validation images of a data source.

  python -m train evaluate --model runs/digits/model.keras --data digits
  python -m train evaluate --model runs/digits/model.tflite --data digits
  python -m train evaluate --model runs/photos/model.keras --data folder:photos --sizes 192 256 320
  python -m train evaluate --model runs/digits/model.keras --data digits --confusion matrix.png

Prints one JSON line: the task's figures (top1, top5), images, milliseconds_per_image. Images are
resized and cropped as the model file says. With several --sizes (of a .keras file) it prints a line
for each and, at the end, a table of accuracy by input size.
"""

import argparse
import json
import sys

HELP = "measure a .keras or .tflite model on validation images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    parser.add_argument(
        "--model", required=True, metavar="FILE", help="a .keras or .tflite file, or a TF.js folder"
    )
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help="digits, folder:PATH or tfds:NAME"
    )
    parser.add_argument("--split", default="validation", choices=("validation", "train"))
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="N",
        help="sides of the square input in pixels, for .keras files (default: the file's)",
    )
    parser.add_argument(
        "--confusion",
        metavar="PNG",
        help="draw which classes are taken for which, at the last of the sizes",
    )
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: 64)")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first unreadable image, not skip it"
    )


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from mobilevit_keras.data import SkippedImages, open_source
    from mobilevit_keras.evaluation import evaluate, open_predictor

    source = open_source(options.data)
    rows = []
    for size in options.sizes or [None]:
        skipped = SkippedImages(strict=options.strict)
        predictor = open_predictor(options.model, size)
        evaluation = evaluate(predictor, source, options.split, options.batch_size, skipped)
        result = evaluation.summary()
        if options.sizes:
            result = {"size": size, **result}
        print(json.dumps(result), flush=True)
        if skipped.count:
            print(skipped, file=sys.stderr)
        rows.append((size, evaluation))
    if options.confusion:
        predictor.task.draw(evaluation.meter, source.class_names, options.confusion)
    if len(rows) > 1:
        names = list(evaluation.result)
        print(f"\n{'size':>6} " + " ".join(f"{name:>8}" for name in names) + "  ms/image")
        for size, evaluation in rows:
            figures = " ".join(f"{evaluation.text(name):>8}" for name in names)
            print(f"{size:>6} {figures} {evaluation.milliseconds_per_image:>9.2f}")
    return 0
