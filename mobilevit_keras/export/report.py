"""The files beside an exported model: class names, and what it is and how it was checked."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras

from mobilevit_keras.export.parity import Parity
from mobilevit_keras.export.serving import INPUT_NAME, OUTPUT_NAME
from mobilevit_keras.files import atomic_path
from mobilevit_keras.models import MobileViTImageClassifier

LABELS_FILE = "labels.txt"


def class_names(model: MobileViTImageClassifier) -> tuple[str, ...]:
    """The model's class names; the classes' numbers where it has none."""
    if model.class_names is None:
        return tuple(str(index) for index in range(model.num_classes))
    return model.class_names


def write_labels(model: MobileViTImageClassifier, path: Path) -> None:
    """Writes one class name a line, in the order of the outputs."""
    lines = [" ".join(name.splitlines()) for name in class_names(model)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def report_path(path: str | Path) -> Path:
    """Where the report of an exported file or TF.js folder lies."""
    path = Path(path)
    return path / "report.json" if path.is_dir() else path.with_suffix(".report.json")


def num_parameters(model: keras.Model) -> int:
    """Parameters that training finds, those of frozen layers too; norms' statistics are none."""
    return sum(
        weight.shape.num_elements()
        for layer in model._flatten_layers()
        # What a layer declared; `trainable_weights` leaves all out where the layer is frozen.
        for weight in layer._trainable_variables
    )


def describe(
    model: MobileViTImageClassifier,
    *,
    file_format: str,
    file: str,
    size: tuple[int, int],
    precision: str,
    num_bytes: int,
    parity: Parity,
    input_type: str = "float32",
    **more: Any,
) -> dict[str, Any]:
    """What is written into report.json.

    Args:
        model: The trained model.
        file_format: "tflite" or "tfjs".
        file: Name of the file or folder.
        size: Height and width of the input.
        precision: See `export_tflite` and `export_tfjs`.
        num_bytes: Size of the model's file or files.
        parity: How far the answers lie from Keras's.
        input_type: "float32" or "uint8".
        **more: Further entries of one format.
    """
    return {
        "format": file_format,
        "file": file,
        "variant": model.backbone.variant,
        "num_classes": model.num_classes,
        "size": list(size),
        "precision": precision,
        "bytes": num_bytes,
        "parameters": num_parameters(model),
        "preprocessing": dataclasses.asdict(model.preprocessing.at_size(size)),
        "input": {"name": INPUT_NAME, "dtype": input_type, "range": [0, 255]},
        "output": {"name": OUTPUT_NAME, "dtype": "float32"},
        "parity": parity.as_json(),
        "accuracy": None,
        **more,
    }


def write_report(report: dict[str, Any], path: Path) -> None:
    """Writes a report as indented JSON."""
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")


def record_accuracy(path: str | Path, top1: float, top5: float, images: int) -> None:
    """Adds a measured accuracy to the report of an exported file or TF.js folder.

    Raises:
        FileNotFoundError: If there is no report beside it.
    """
    target = report_path(path)
    if not target.is_file():
        raise FileNotFoundError(f"There is no report {target}.")
    report = json.loads(target.read_text("utf-8"))
    report["accuracy"] = {"top1": top1, "top5": top5, "images": images}
    with atomic_path(target) as temporary:
        write_report(report, temporary)
