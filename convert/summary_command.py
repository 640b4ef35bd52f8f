"""Runs every model of a run's folder on the same validation images and prints a table.

  python -m convert summary runs/digits --data digits

The folder's model.keras comes first; each .tflite file and TF.js folder is compared with it. The
accuracies are noted in the reports beside the exported models, where the browser application finds
them. Exit status 1 if a float export gives another class than Keras for any image.
"""

import argparse
import json
from pathlib import Path

# What is stored in fewer bits may differ; the table says by how much.
EXACT = ("float32", "float16")

HELP = "compare a run's model with its exports on validation images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to `parser`."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder of a training")
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help="digits, folder:PATH or tfds:NAME"
    )


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from mobilevit_keras.data import open_source
    from mobilevit_keras.evaluation import evaluate, open_predictor
    from mobilevit_keras.export.report import record_accuracy, report_path

    exported = [
        *options.run.glob("*.tflite"),
        *(path.parent for path in options.run.glob("*/model.json")),
    ]
    if not exported:
        raise ValueError(
            "A run's folder must hold exports to compare; see `convert tflite` and `convert tfjs`. "
            f"Received: {options.run}."
        )
    source = open_source(options.data)
    trained = open_predictor(options.run / "model.keras")
    reference = evaluate(trained, source)
    rows = [("model.keras", "-", "-", trained, reference)]
    differ = 0
    for path in sorted(exported):
        predictor = open_predictor(path)
        result = evaluate(predictor, source)
        same = result.probabilities.argmax(1) == reference.probabilities.argmax(1)
        difference = abs(result.probabilities - reference.probabilities).max()
        if json.loads(report_path(path).read_text("utf-8"))["precision"] in EXACT:
            differ += int((~same).sum())
        rows.append(
            (path.name, f"{same.sum()}/{len(same)}", f"{difference:.1e}", predictor, result)
        )
        summary = result.summary()
        record_accuracy(path, summary["top1"], summary["top5"], summary["images"])

    print(f"{len(reference.labels)} validation images of {source}")
    print(
        f"{'model':<24} {'top-1':>8} {'as Keras':>10} {'difference':>11} {'kB':>7} {'ms/image':>9}"
    )
    for name, same, difference, predictor, result in rows:
        print(
            f"{name:<24} {result.top(1):>8.2%} {same:>10} {difference:>11} "
            f"{predictor.num_bytes / 1000:>7.0f} {result.milliseconds_per_image:>9.2f}"
        )
    print("difference: largest of a probability; times: Keras in batches of 64, exports one by one")
    return 1 if differ else 0
