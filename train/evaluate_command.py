"""Measures a model on the validation images of a data source.

  python -m train evaluate --model runs/digits/model.keras --data digits
  python -m train evaluate --model runs/digits/model.tflite --data digits
  python -m train evaluate --model runs/photos/model.keras --data folder:photos --sizes 192 256 320
  python -m train evaluate --model runs/digits/model.keras --data digits --confusion matrix.png
  python -m train evaluate --model runs/streets/model.keras --data masks:streets --sheet sheet.png
  python -m train evaluate --model runs/cells/model.tflite --data voc:cells --curves curves.png

Prints one JSON line: the task's figures, images, milliseconds_per_image. Figures are top1 and top5;
mean_iou, pixel_accuracy and class_iou, that of each class, at the full size of the images; or map,
map50 and map75, COCO's mean average precision over IoUs of 0.5 to 0.95, at 0.5 and at 0.75, with
those of each size and class. Images are resized and cropped, or stretched, as the model file says.
With several --sizes (of a .keras file) it prints a line for each and, at the end, a table of
accuracy by input size; what has a figure for each class is a table too.
"""

import argparse
import dataclasses
import json
import sys

from mobilevit_keras.commands import parse_size, size_text

HELP = "measure a .keras or .tflite model on validation images"
KEEPS_LIBRARIES_QUIET = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    parser.add_argument(
        "--model", required=True, metavar="FILE", help="a .keras or .tflite file, or a TF.js folder"
    )
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help="a source that has what the model answers"
    )
    parser.add_argument("--split", default="validation", choices=("validation", "train"))
    parser.add_argument(
        "--sizes",
        type=parse_size,
        nargs="+",
        metavar="SIDE|HxW",
        help="sizes of the input in pixels, for .keras files (default: the file's)",
    )
    parser.add_argument(
        "--confusion",
        "--curves",
        dest="picture",
        metavar="PNG",
        help="draw which classes are taken for which or, of a detector, precision over recall, at "
        "the last of the sizes",
    )
    parser.add_argument(
        "--sheet",
        metavar="PNG",
        help="draw some images with what is true of them and what the model answers, at the last "
        "of the sizes",
    )
    parser.add_argument(
        "--suppression-rules",
        metavar="RULES",
        help="of a detector, how boxes that lie on each other go: paper, in each class by itself "
        "above an IoU of 0.5 (the default); or mediapipe, whatever their classes above 0.3, as "
        "users of its detector get them",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="(default: 64; of masks and boxes 16)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first unreadable image, not skip it"
    )


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from mobilevit_keras.data import SkippedImages, open_source
    from mobilevit_keras.evaluation import draw_examples, evaluate, open_predictor
    from mobilevit_keras.tasks.pictures import check_plot

    if options.picture:
        check_plot(options.picture)
    predictors = [open_predictor(options.model, size) for size in options.sizes or [None]]
    if options.suppression_rules:
        predictors = [_with_rules(each, options.suppression_rules) for each in predictors]
    task = predictors[0].task
    source = open_source(options.data, fields=task.fields or None)
    if options.sheet:
        # A mistake in it should not come after minutes of measurement.
        draw_examples(predictors[-1], source, options.sheet, options.split)
    rows = []
    for predictor in predictors:
        skipped = SkippedImages(strict=options.strict)
        evaluation = evaluate(predictor, source, options.split, options.batch_size, skipped)
        result = evaluation.summary()
        if options.sizes:
            height, width = predictor.size
            result = {"size": height if height == width else [height, width], **result}
        print(json.dumps(result), flush=True)
        if skipped.count:
            print(skipped, file=sys.stderr)
        rows.append((size_text(predictor.size), evaluation))
    if options.picture:
        task.draw(evaluation.meter, source.class_names, options.picture)
    if len(rows) > 1:
        _print_sizes(rows)
    _print_details(rows)
    return 0


def _with_rules(predictor, rules: str):
    """The predictor, whose boxes go by other rules."""
    from mobilevit_keras.tasks import Detection

    task = predictor.task
    if not isinstance(task, Detection) or task.file.suppresses:
        what = "which suppresses" if isinstance(task, Detection) else f"which is for {task.name}"
        raise ValueError(
            "`--suppression-rules` are for detectors whose files leave suppression to others. "
            f"Received: {predictor.path}, {what}."
        )
    return dataclasses.replace(predictor, task=task.with_rules(rules))


def _print_sizes(rows) -> None:
    """A table of the figures by input size."""
    names = list(rows[0][1].result)
    widths = [max(8, len(name)) for name in names]
    titles = " ".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    print(f"\n{'size':>7} {titles}  ms/image")
    for size, evaluation in rows:
        figures = " ".join(
            f"{evaluation.text(name):>{width}}" for name, width in zip(names, widths, strict=True)
        )
        print(f"{size:>7} {figures} {evaluation.milliseconds_per_image:>9.2f}")


def _print_details(rows) -> None:
    """A table for each figure that has parts: a line for each part, a column for each size."""
    from mobilevit_keras.evaluation.accuracy import figure_text

    details = [evaluation.meter.details() for _, evaluation in rows]
    for name in details[0]:
        parts = list(dict.fromkeys(part for of_size in details for part in of_size[name]))
        width = max(len(part) for part in [name, *parts])
        print(f"\n{name:<{width}} " + " ".join(f"{size:>8}" for size, _ in rows))
        for part in parts:
            values = (of_size[name].get(part) for of_size in details)
            texts = ("-" if value is None else figure_text(value) for value in values)
            print(f"{part:<{width}} " + " ".join(f"{text:>8}" for text in texts))
