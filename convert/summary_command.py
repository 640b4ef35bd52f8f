"""Runs every model of a run's folder on the same validation images and prints a table.

  python -m convert summary runs/digits --data digits

The folder's model.keras comes first; each .tflite file and TF.js folder is compared with it, at its
own image size. The accuracies are noted in the exported models themselves, where the browser
application finds them, and in the reports beside them. Exit status 1 if a float export does not
answer as Keras does.
"""

import argparse
import functools
import sys
from pathlib import Path

# What is stored in fewer bits may differ; the table says by how much.
EXACT = ("float32", "float16")

HELP = "compare a run's model with its exports on validation images"
KEEPS_LIBRARIES_QUIET = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to `parser`."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder of a training")
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help="digits, folder:PATH, masks:PATH and so on"
    )


def find_exports(folder: Path) -> list[Path]:
    """The exported models of a folder; a name with a dot first is of a file half written."""
    files = [*folder.glob("*.tflite"), *(path.parent for path in folder.glob("*/model.json"))]
    return sorted(path for path in files if not path.name.startswith("."))


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from mobilevit_keras.data import open_source
    from mobilevit_keras.evaluation import evaluate, open_predictor
    from mobilevit_keras.export.report import record_accuracy

    exported = find_exports(options.run)
    if not exported:
        raise ValueError(
            "A run's folder must hold exports to compare; see `convert tflite` and `convert tfjs`. "
            f"Received: {options.run}."
        )
    trained = open_predictor(options.run / "model.keras")
    source = open_source(options.data, fields=trained.task.fields or None)

    @functools.cache
    def trained_at(size: tuple[int, int]):
        return evaluate(open_predictor(trained.path, size), source, keep_outputs=True)

    reference = trained_at(trained.size)
    rows = [("model.keras", trained, reference, "")]
    problems = []
    for path in exported:
        predictor = open_predictor(path)
        result = evaluate(predictor, source, keep_outputs=True)
        comparison = predictor.task.compare(trained_at(predictor.size).outputs, result.outputs)
        if predictor.precision in EXACT:
            file_format = "tfjs" if path.is_dir() else "tflite"
            problem = comparison.problem(file_format, predictor.precision)
            problems += [f"{path}: {problem}"] if problem else []
        rows.append((path.name, predictor, result, comparison.summary()))
        record_accuracy(path, dict(result.result), result.images)

    print(f"{reference.images} validation images of {source}")
    figure = next(iter(reference.result))
    print(f"{'model':<24} {figure:>8} {'kB':>7} {'ms/image':>9}  against Keras")
    for name, predictor, result, against in rows:
        print(
            f"{name:<24} {result.text(figure):>8} {predictor.num_bytes / 1000:>7.0f} "
            f"{result.milliseconds_per_image:>9.2f}  {against}".rstrip()
        )
    print("times: Keras in batches, exports one by one")
    for problem in problems:
        print(f"check failed: {problem}", file=sys.stderr)
    return 1 if problems else 0
