"""What an exported file says about itself, and the copies for people beside it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from mobilevit_keras.description import (
    DESCRIPTION_FILE,
    LABELS_FILE,
    SCHEMA,
    as_text,
    compact,
    read_description,
    write_description,
)
from mobilevit_keras.export.metadata import label_files
from mobilevit_keras.export.serving import INPUT_NAME
from mobilevit_keras.models import VisionTask
from mobilevit_keras.tasks import Comparison, FileOutput, Outputs, Task
from mobilevit_keras.version import __version__


def num_parameters(model: keras.Model) -> int:
    """Parameters that training finds, those of frozen layers too; norms' statistics are none."""
    return sum(
        weight.shape.num_elements()
        for layer in model._flatten_layers()
        # What a layer declared; `trainable_weights` leaves all out where the layer is frozen.
        for weight in layer._trainable_variables
    )


def describe(
    model: VisionTask,
    task: Task,
    *,
    size: tuple[int, int],
    precision: str,
    answers: Outputs,
    comparison: Comparison,
    input_type: str = "float32",
    **more: Any,
) -> dict[str, Any]:
    """What a file says about itself; see `mobilevit_keras.description`.

    Args:
        model: The trained model.
        task: Its task.
        size: Height and width of the input.
        precision: See `export_tflite` and `export_tfjs`.
        answers: What the file gave.
        comparison: How far that lies from Keras's answers.
        input_type: "float32" or "uint8".
        **more: Further entries of one format.
    """
    outputs = task.file_outputs(model)
    labels = [output.labels for output in outputs if output.labels is not None]
    return {
        "schema": SCHEMA,
        "version": __version__,
        "task": task.name,
        "variant": model.variant,
        "precision": precision,
        "size": list(size),
        "preprocessing": {
            # As JSON has it: a file gives back what the report says.
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(model.preprocessing.at_size(size)).items()
        },
        "input": {"name": INPUT_NAME, "dtype": input_type, "range": [0, 255]},
        "outputs": [_described(out, answers[out.name].shape[1:]) for out in outputs],
        "class_names": list(labels[0]) if labels else None,
        "parameters": num_parameters(model),
        "parity": comparison.as_json() | {"summary": comparison.summary()},
        "accuracy": None,
        **task.described(),
        **more,
    }


def _described(output: FileOutput, shape: tuple[int, ...]) -> dict[str, Any]:
    described = {"name": output.name, "dtype": "float32", "shape": [1, *shape]}
    return described if output.activation is None else described | {"activation": output.activation}


def archive_entries(model: VisionTask, task: Task, description: Mapping[str, Any]) -> dict:
    """What follows a `.tflite` file's flatbuffer: class names and the description."""
    return {
        **label_files(task.file_outputs(model)),
        DESCRIPTION_FILE: compact(description),
    }


def write_copies(
    model: VisionTask, task: Task, report: Mapping[str, Any], labels: Path | None, report_file: Path
) -> None:
    """Writes the copies for people: the report and, for a task with classes, their names."""
    names = label_files(task.file_outputs(model)).get(LABELS_FILE)
    if labels is not None and names is not None:
        labels.write_bytes(names)
    report_file.write_text(as_text(report), "utf-8")


def record_accuracy(path: str | Path, accuracy: Mapping[str, float], images: int) -> None:
    """Notes a measured accuracy in an exported file or TF.js folder, and in the report beside it.

    Raises:
        OSError: If it cannot be written.
        ValueError: If the file says nothing about itself.
    """
    write_description(path, read_description(path) | {"accuracy": {**accuracy, "images": images}})
