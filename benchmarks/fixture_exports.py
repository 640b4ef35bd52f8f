"""Whether a checkpoint of another library answers through this package's files as stored.

  python -m benchmarks.fixture_exports shared/parity/cvnets_deeplabv3_mobilevit_xxs.pt

Beside the checkpoint lies NAME.npz with `images_SIZE` and, for each size, a segmenter's
`logits_SIZE` or a detector's `locations_SIZE` and `classes_SIZE`. Prints the largest differences of
Keras, of a float32 .tflite file and, with --tfjs, of a TF.js model; exits with status 1 where a
file is off by 0.001 or more.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobilevit_keras.export import export_tfjs, export_tflite, run_tfjs, run_tflite
from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.tasks import Outputs, Task, task_of
from mobilevit_keras.weights import load_checkpoint

TOLERANCE = 1e-3


def stored_outputs(stored: Mapping[str, np.ndarray], size: str, task: Task) -> Outputs:
    """What a file should answer to the images of a size."""
    if f"locations_{size}" in stored:
        outputs = {"boxes": stored[f"locations_{size}"], "logits": stored[f"classes_{size}"]}
    else:
        outputs = stored[f"logits_{size}"]
    return {name: np.asarray(values) for name, values in task.serve(outputs).items()}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--tfjs", action="store_true")
    options = parser.parse_args(arguments)
    worst = 0.0
    for checkpoint in options.checkpoints:
        stored = np.load(checkpoint.with_suffix(".npz"))
        model = load_checkpoint(checkpoint)
        for name in sorted(key for key in stored if key.startswith("images_")):
            size, images = name.removeprefix("images_"), stored[name].astype(np.float32)
            if stored[name].dtype != np.uint8:
                images *= 255.0
            task = task_of(model).for_size(model, images.shape[1:3])
            expected = stored_outputs(stored, size, task)
            found = {"Keras": keras_outputs(model, task, images)}
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.tflite"
                export_tflite(model, path, images.shape[1:3], images=images)
                found["TFLite"] = run_tflite(path, images).outputs
                if options.tfjs:
                    path = Path(folder) / "tfjs"
                    export_tfjs(model, path, images.shape[1:3], images=images)
                    found["TF.js"] = run_tfjs(path, images).outputs
            differences = {
                f"{form} {output}": np.abs(answers[output] - values).max()
                for form, answers in found.items()
                for output, values in expected.items()
            }
            worst = max(worst, *differences.values())
            texts = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
            shape = "x".join(map(str, images.shape[1:3]))
            print(f"{checkpoint.stem} {size} ({shape}): {texts}", flush=True)
    return int(not worst < TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
