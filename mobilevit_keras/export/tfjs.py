"""From a trained model to a checked TF.js graph model."""

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.description import LABELS_FILE, TFJS_KEY, labels_path, report_path
from mobilevit_keras.export.check_images import open_check_images
from mobilevit_keras.export.conversion import convert
from mobilevit_keras.export.report import describe, write_copies
from mobilevit_keras.export.serving import check_export_size, keras_outputs, serving_directory
from mobilevit_keras.export.tfjs_runner import prepare_tfjs_runtime, run_tfjs
from mobilevit_keras.files import atomic_directory, check_replaceable
from mobilevit_keras.layers import TRAINING, TransformerLayer
from mobilevit_keras.models import VisionTask
from mobilevit_keras.quantization import fold
from mobilevit_keras.quantization.fold import check_model, check_size
from mobilevit_keras.tasks import task_of

TFJS_PRECISIONS = {"float32": None, "float16": "float16", "uint8": "uint8"}
"""How the weights are stored: see `conversion.tfjs`."""


def export_tfjs(
    model: VisionTask,
    directory: str | Path,
    size: int | tuple[int, int],
    precision: str = "float32",
    images: str | Path | np.ndarray | None = None,
    heat_map: bool = False,
) -> dict[str, Any]:
    """Writes a TF.js graph model's folder: model.json, weights, labels.txt, report.json.

    The model takes `image`, float32 RGB 0..255 of shape `(1, H, W, 3)`, and gives its task's
    outputs: `probabilities`, `(1, K)`, of a classifier; `segmentation`, logits `(1, h, w, K)` at
    the output stride, of a segmenter; `location`, `(1, A, 4)`, and `score`, `(1, A, K)`, of a
    detector's anchors. What a client needs to know is in
    model.json; labels.txt and report.json are copies for people. It is run in Node.js and compared
    with `model` before the folder gets its name.

    Args:
        model: A trained model.
        directory: The folder to write; an older TF.js model there is replaced.
        size: Side of the square input, or (height, width).
        precision: A key of `TFJS_PRECISIONS`: how weights are stored. They are float32 once loaded.
        images: What to compare on; see `open_check_images`.
        heat_map: Whether a classifier also gives where its answer comes from; see `export_tflite`.

    Returns:
        The report, as it is written.

    Raises:
        ValueError: If an argument is out of its range, or `directory` holds something else.
        OSError: If the folder cannot be written, or Node.js is missing.
        CheckError: If the model does not agree with Keras.
    """
    if precision not in TFJS_PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {sorted(TFJS_PRECISIONS)}. Received: {precision!r}."
        )
    weights_type = TFJS_PRECISIONS[precision]
    check_model(model, TRAINING)
    directory, size = Path(directory), check_export_size(size)
    check_size(model, *size)
    check_replaceable(directory, unmarked=_earlier_model)
    task = task_of(model).for_size(model, size)
    if heat_map:
        task = task.with_heat_map()
    # Of some sizes there is no file: better said now than after the work.
    task.described()
    check_images = open_check_images(images, *size, model.preprocessing)
    prepare_tfjs_runtime()
    with atomic_directory(directory, unmarked=_earlier_model) as temporary:
        with serving_directory(split_products(fold(model)), task, size) as saved_model:
            convert("tfjs", saved_model, temporary, {"weights_type": weights_type})
        answers = run_tfjs(temporary, check_images).outputs
        comparison = task.compare(keras_outputs(model, task, check_images), answers)
        comparison.check("tfjs", precision)
        num_bytes = sum(file.stat().st_size for file in temporary.iterdir())
        model_json = json.loads((temporary / "model.json").read_text("utf-8"))
        operations = collections.Counter(n["op"] for n in model_json["modelTopology"]["node"])
        description = describe(
            model,
            task,
            size=size,
            precision=precision,
            answers=answers,
            comparison=comparison,
            structure={"operations": dict(sorted(operations.items()))},
        )
        metadata = model_json.get("userDefinedMetadata") or {}
        model_json["userDefinedMetadata"] = {**metadata, TFJS_KEY: description}
        (temporary / "model.json").write_text(json.dumps(model_json, ensure_ascii=False), "utf-8")
        report = {"format": "tfjs", "file": directory.name, "bytes": num_bytes, **description}
        write_copies(model, task, report, labels_path(temporary), report_path(temporary))
    return report


def split_products(deployed: VisionTask) -> VisionTask:
    """Has the attention products of `deployed` computed one sequence at a time; returns it.

    TF.js's WASM backend has a fast matrix product for a batch of one only, and a naive loop for
    more, in which XXS at 256 pixels would spend most of its time.
    """
    for layer in deployed.backbone._flatten_layers():
        if isinstance(layer, TransformerLayer):
            layer.splits_products = True
    return deployed


def _earlier_model(directory: Path) -> list[str]:
    """Files that versions without marks wrote: a TF.js model whose report says that it is ours."""
    try:
        report = json.loads(report_path(directory).read_text("utf-8"))
        manifest = json.loads((directory / "model.json").read_text("utf-8"))["weightsManifest"]
        shards = [path for group in manifest for path in group["paths"]]
        is_ours = report["format"] == "tfjs"
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return ["model.json", "report.json", LABELS_FILE, *shards] if is_ours else []
