"""From a trained model to a checked `.tflite` file."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.description import labels_path, report_path, write_archive
from mobilevit_keras.export.check_images import (
    open_calibration_images,
    open_check_images,
    source_name,
)
from mobilevit_keras.export.conversion import convert
from mobilevit_keras.export.flatbuffer_edits import SUPPRESSION
from mobilevit_keras.export.metadata import add_metadata, label_files
from mobilevit_keras.export.report import archive_entries, describe, write_copies
from mobilevit_keras.export.serving import check_export_size, keras_outputs, serving_directory
from mobilevit_keras.export.structure import check_structure, inspect_tflite
from mobilevit_keras.export.suppression import with_suppression
from mobilevit_keras.export.tflite_runner import run_tflite
from mobilevit_keras.files import atomic_path
from mobilevit_keras.layers import QUANTIZED, TRAINING
from mobilevit_keras.models import VisionTask
from mobilevit_keras.quantization import fold, quantize_aware, settle_ranges
from mobilevit_keras.quantization.fold import check_model, check_size
from mobilevit_keras.tasks import IN_FILE, RUNTIME, SUPPRESSIONS, task_of

INPUT_TYPES = ("float32", "uint8")


@dataclasses.dataclass(frozen=True)
class _Precision:
    """One row of the table of precisions.

    Attributes:
        weights_type: See `conversion.tflite`.
        max_partitions: The most XNNPACK partitions; None where they are only counted.
        is_int8: Whether every convolution and dense layer must compute in int8.
        calibrates: Whether a float model needs calibration images.
    """

    weights_type: str
    max_partitions: int | None = 1
    is_int8: bool = False
    calibrates: bool = False


TFLITE_PRECISIONS = {
    "float32": _Precision("float32"),
    "float16": _Precision("float16"),
    # Activations are rounded to int8 within each operation, by the range of each image.
    "dynamic": _Precision("int8"),
    "int8": _Precision("int8", is_int8=True, calibrates=True),
    "int8_full": _Precision("int8", max_partitions=None, is_int8=True, calibrates=True),
}


def export_tflite(
    model: VisionTask,
    path: str | Path,
    size: int | tuple[int, int],
    precision: str = "float32",
    images: str | Path | np.ndarray | None = None,
    calibration: str | Path | np.ndarray | None = None,
    input_type: str = "float32",
    suppression: str = RUNTIME,
    heat_map: bool = False,
) -> dict[str, Any]:
    """Writes a `.tflite` file that says what it is, with copies of that for people beside it.

    The file takes `image`, RGB 0..255 of shape `(1, H, W, 3)`, and gives its task's outputs:
    `probabilities`, `(1, K)`, of a classifier; `segmentation`, logits `(1, h, w, K)` at the output
    stride, of a segmenter, which runtimes enlarge; `location`, `(1, A, 4)` relative to the anchors,
    and `score`, `(1, A, K)`, of a detector, which runtimes decode and suppress. Class names,
    preprocessing and all else that a client needs are in it; NAME.labels.txt and NAME.report.json
    hold them too. It is run and compared before it gets its name; nothing is left where it differs.
    Float files are compared with `model`, an int8 file with the fake-quantized model that it was
    made from.

    Args:
        model: A trained model, or a quantization-aware one for "int8".
        path: The file to write, NAME.tflite.
        size: Side of the square input, or (height, width).
        precision: "float32"; "float16"; "dynamic", int8 weights; "int8", int8 convolutions and
            dense layers and the rest in float; "int8_full", all of it.
        images: What to compare on; see `open_check_images`.
        calibration: Images to measure ranges on, for a float model in "int8" or "int8_full"; see
            `open_calibration_images`.
        input_type: "float32", or "uint8" with "int8" and "int8_full".
        suppression: "runtime"; or, of a detector, "in-file": boxes, classes, scores and their
            number come out, for runtimes of before MediaPipe Tasks, by an operation that only CPUs
            have.
        heat_map: Whether a classifier's file also gives `heat_map`, `(1, h, w, K)`, the score of
            each class at each place before pooling; the logits are their mean over the places. It
            costs a 1x1 convolution, of float in "int8", and leaves the probabilities as they are.

    Returns:
        The report, as it is written.

    Raises:
        ValueError: If an argument is out of its range or does not go with the others.
        OSError: If the file cannot be written.
        CheckError: If the file does not agree with Keras or a runtime would not take it.
    """
    path, size = Path(path), check_export_size(size)
    if path.suffix != ".tflite":
        # Whoever mistypes an argument must not lose a trained model or a photograph.
        raise ValueError(f"The file to write must end in .tflite. Received: {path}.")
    if path.is_dir():
        raise IsADirectoryError(f"A file name is needed. Received: the folder {path}.")
    chosen = _check_arguments(model, size, precision, calibration, input_type, suppression)
    task = task_of(model).for_size(model, size, suppression)
    if heat_map:
        task = task.with_heat_map()
    # Of some sizes there is no file: better said now than after the work.
    task.described()
    check_images = open_check_images(images, *size, model.preprocessing)
    with contextlib.ExitStack() as stack:
        labels = None
        if label_files(task.file_outputs(model)):
            labels = stack.enter_context(atomic_path(labels_path(path)))
        report_file = stack.enter_context(atomic_path(report_path(path)))
        # The last to be entered is the first to get its name: the file, then its copies.
        temporary = stack.enter_context(atomic_path(path))
        calibration_images = None
        if calibration is not None:
            calibration_images = open_calibration_images(calibration, *size, model.preprocessing)
        deployed = _deployed(model, precision, calibration_images)
        with _calibration_file(precision, calibration_images) as calibration_file:
            options = {
                "weights_type": chosen.weights_type,
                "calibration": calibration_file,
                "input_type": input_type,
            }
            with serving_directory(deployed, task, size, input_type == "float32") as saved_model:
                convert("tflite", saved_model, temporary, options)
        content = temporary.read_bytes()
        anchors = None
        if suppression == IN_FILE:
            anchors = run_tflite(temporary, check_images).outputs
            content = with_suppression(content, task.file.decoding, model.num_classes)
        content = add_metadata(
            content,
            task.file_outputs(model),
            model.variant,
            f"Image {task.name}",
            task.decoding,
        )
        temporary.write_bytes(content)
        structure = inspect_tflite(temporary)
        # The step from uint8 to int8 at the input is TFLite's own.
        may_leave = ("QUANTIZE",) if input_type == "uint8" else ()
        custom = (SUPPRESSION,) if suppression == IN_FILE else ()
        check_structure(
            structure,
            chosen.max_partitions,
            chosen.is_int8,
            may_leave,
            custom,
            # Of the scores at each place; "int8_full" has no float at all.
            max_float_convolutions=int(heat_map and precision == "int8"),
        )
        answers = run_tflite(temporary, check_images).outputs
        if anchors is not None:
            task.compare(anchors, answers).check("tflite", precision)
        # What suppresses is compared with its own anchors, and these with Keras's.
        plain, plain_task = answers if anchors is None else anchors, task.for_size(model, size)
        reference = deployed if deployed.form == QUANTIZED else model
        comparison = plain_task.compare(keras_outputs(reference, task, check_images), plain)
        comparison.check("tflite", precision)
        more: dict[str, Any] = {"structure": structure.summary()}
        if chosen.calibrates and calibration_images is not None:
            trained = plain_task.compare(keras_outputs(model, task, check_images), plain)
            more["float_parity"] = trained.as_json() | {"summary": trained.summary()}
            more["calibration_images"] = len(calibration_images)
        description = describe(
            model,
            task,
            size=size,
            precision=precision,
            answers=answers,
            comparison=comparison,
            input_type=input_type,
            **more,
        )
        write_archive(temporary, archive_entries(model, task, description))
        report = {
            "format": "tflite",
            "file": path.name,
            "bytes": temporary.stat().st_size,
            **description,
        }
        write_copies(model, task, report, labels, report_file)
    return report


def _check_arguments(model, size, precision, calibration, input_type, suppression) -> _Precision:
    """Returns the precision's row, or raises ValueError where the arguments do not go together."""
    for name, value, values in (
        ("precision", precision, tuple(TFLITE_PRECISIONS)),
        ("input_type", input_type, INPUT_TYPES),
        ("suppression", suppression, SUPPRESSIONS),
    ):
        if value not in values:
            raise ValueError(f"`{name}` must be one of {values}. Received: {value!r}.")
    chosen = TFLITE_PRECISIONS[precision]
    check_model(model, TRAINING, QUANTIZED)
    check_size(model, *size)
    is_aware = model.form == QUANTIZED
    if is_aware and precision != "int8":
        raise ValueError(
            f'A quantization-aware model converts to "int8" only. Received: {precision!r}.'
        )
    needs = chosen.calibrates and not is_aware
    if needs != (calibration is not None):
        who = "A quantization-aware model" if is_aware else f"{precision!r}"
        rule = "needs calibration images" if needs else "takes no calibration images"
        received = "none" if calibration is None else source_name(calibration)
        raise ValueError(f"{who} {rule}. Received: {received}.")
    if input_type != "float32" and not chosen.is_int8:
        raise ValueError(
            'An input type other than float32 goes with "int8" and "int8_full". '
            f"Received: {input_type!r} with {precision!r}."
        )
    return chosen


def _deployed(model, precision: str, calibration_images) -> VisionTask:
    if model.form == QUANTIZED:
        # A twin's twin: the caller's ranges may still move in training.
        twin = model.rebuilt()
        twin.set_weights(model.get_weights())
        settle_ranges(twin)
        return twin
    if precision == "int8":
        return quantize_aware(model, calibration_images / 255.0)
    return fold(model)


@contextlib.contextmanager
def _calibration_file(precision: str, images: np.ndarray | None) -> Iterator[str | None]:
    """Yields a file for the converter's own calibration, where it is to do it."""
    if precision != "int8_full":
        yield None
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mobilevit_keras-") as folder:
        np.save(f"{folder}/images.npy", images)
        yield f"{folder}/images.npy"
