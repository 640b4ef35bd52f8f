"""From a trained classifier to a checked TF.js graph model."""

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.export.check_images import open_check_images
from mobilevit_keras.export.conversion import convert
from mobilevit_keras.export.parity import Bound, check_parity, compare
from mobilevit_keras.export.report import (
    LABELS_FILE,
    describe,
    report_path,
    write_labels,
    write_report,
)
from mobilevit_keras.export.serving import (
    check_export_size,
    keras_probabilities,
    serving_directory,
)
from mobilevit_keras.export.tfjs_runner import prepare_tfjs_runtime, run_tfjs
from mobilevit_keras.files import atomic_directory, check_replaceable
from mobilevit_keras.layers import TRAINING, TransformerLayer
from mobilevit_keras.models import MobileViTImageClassifier
from mobilevit_keras.quantization import fold
from mobilevit_keras.quantization.fold import check_model, check_size


@dataclasses.dataclass(frozen=True)
class _Precision:
    """How the weights are stored, and how far the answers may lie from Keras's."""

    weights_type: str | None
    bound: Bound


TFJS_PRECISIONS = {
    "float32": _Precision(None, Bound(1e-3)),
    "float16": _Precision("float16", Bound(1e-2)),
    # One range for a whole kernel, read from no image: a trained XXS moves by 0.01 to 0.1.
    "uint8": _Precision("uint8", Bound(0.25)),
}


def export_tfjs(
    model: MobileViTImageClassifier,
    directory: str | Path,
    size: int | tuple[int, int],
    precision: str = "float32",
    images: str | Path | np.ndarray | None = None,
) -> dict[str, Any]:
    """Writes a TF.js graph model's folder: model.json, weights, labels.txt, report.json.

    The model takes `image`, float32 RGB 0..255 of shape `(1, H, W, 3)`, and gives `probabilities`,
    `(1, K)`. It is run in Node.js and compared with `model` before the folder gets its name.

    Args:
        model: A trained classifier.
        directory: The folder to write; an older TF.js model there is replaced.
        size: Side of the square input, or (height, width).
        precision: A key of `TFJS_PRECISIONS`: how weights are stored. They are float32 once loaded.
        images: What to compare on; see `open_check_images`.

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
    chosen = TFJS_PRECISIONS[precision]
    check_model(model, TRAINING)
    directory, size = Path(directory), check_export_size(size)
    check_size(model, *size)
    check_replaceable(directory, unmarked=_earlier_model)
    check_images = open_check_images(images, *size, model.preprocessing)
    prepare_tfjs_runtime()
    with atomic_directory(directory, unmarked=_earlier_model) as temporary:
        with serving_directory(split_products(fold(model)), size) as saved_model:
            convert("tfjs", saved_model, temporary, {"weights_type": chosen.weights_type})
        expected = keras_probabilities(model, check_images)
        parity = compare(expected, run_tfjs(temporary, check_images).probabilities)
        check_parity(parity, chosen.bound)
        num_bytes = sum(file.stat().st_size for file in temporary.iterdir())
        topology = json.loads((temporary / "model.json").read_text("utf-8"))["modelTopology"]
        operations = collections.Counter(node["op"] for node in topology["node"])
        write_labels(model, temporary / LABELS_FILE)
        report = describe(
            model,
            file_format="tfjs",
            file=directory.name,
            size=size,
            precision=precision,
            num_bytes=num_bytes,
            parity=parity,
            structure={"operations": dict(sorted(operations.items()))},
        )
        write_report(report, report_path(temporary))
    return report


def split_products(deployed: MobileViTImageClassifier) -> MobileViTImageClassifier:
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
