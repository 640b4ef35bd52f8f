"""The converters, each run in a process of its own.

TensorFlow's TFLite converter keeps memory after each call, and importing tensorflowjs takes seconds
and prints pages. A process that ends gives the memory back and keeps its chatter to itself.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

_OS_ERROR_STATUS = 3


def convert(kind: str, saved_model: Path, output: Path, options: dict) -> None:
    """Converts a SavedModel.

    Args:
        kind: "tflite" or "tfjs".
        saved_model: The SavedModel's folder.
        output: File or folder to write.
        options: Arguments of this module's function for `kind`.

    Raises:
        OSError: If the output cannot be written.
        RuntimeError: If the converter fails; the message ends with what it printed.
    """
    job = json.dumps(
        {"kind": kind, "saved_model": str(saved_model), "output": str(output), "options": options}
    )
    process = subprocess.run(
        [sys.executable, "-m", __name__, job],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    if process.returncode == _OS_ERROR_STATUS:
        raise OSError(process.stderr.strip().splitlines()[-1])
    if process.returncode:
        tail = "\n".join(process.stderr.strip().splitlines()[-30:])
        raise RuntimeError(f"The {kind} converter failed with status {process.returncode}.\n{tail}")


def tflite(
    saved_model: str,
    output: str,
    weights_type: str = "float32",
    calibration: str | None = None,
    input_type: str = "float32",
) -> None:
    """Writes a `.tflite` file of built-in operations.

    Args:
        saved_model, output: See `convert`.
        weights_type: "float32"; "float16", in which processors may then compute too; or "int8". In
            a graph with fake quantization, "int8" makes it real; in any other, operations still
            take float values.
        calibration: A `.npy` file of inputs `(N, H, W, 3)` to measure the ranges of a graph without
            fake quantization on; every operation is int8 then.
        input_type: "float32" or "uint8".
    """
    import numpy as np
    import tensorflow as tf

    from mobilevit_keras.export.flatbuffer_edits import float_depthwise, shorten_names
    from mobilevit_keras.export.serving import SIGNATURE

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=[SIGNATURE])
    # Without this, operations of full TensorFlow are let in, which phones do not have.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if weights_type != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights_type == "float16":
        converter.target_spec.supported_types = [tf.float16]
        # Written into the file as a hint: ARM processors then compute in half precision too.
        converter.target_spec._experimental_supported_accumulation_type = tf.dtypes.float16
    if calibration is not None:
        inputs = np.load(calibration, mmap_mode="r")
        converter.representative_dataset = lambda: ([np.array(image[None])] for image in inputs)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.dtypes.as_dtype(input_type)
    content = shorten_names(converter.convert())
    if weights_type == "int8" and calibration is None:
        content = float_depthwise(content)
    Path(output).write_bytes(content)


def tfjs(saved_model: str, output: str, weights_type: str | None = None) -> None:
    """Writes a TF.js graph model.

    Args:
        saved_model, output: See `convert`.
        weights_type: "float16" or "uint8" to store the weights so; they are float32 once loaded.
    """
    from tensorflowjs.converters import tf_saved_model_conversion_v2

    from mobilevit_keras.export.serving import SIGNATURE

    tf_saved_model_conversion_v2.convert_tf_saved_model(
        saved_model,
        output,
        signature_def=SIGNATURE,
        quantization_dtype_map=None if weights_type is None else {weights_type: True},
    )


def main(job: dict) -> int:
    """Runs the job; returns the exit status."""
    try:
        {"tflite": tflite, "tfjs": tfjs}[job["kind"]](
            job["saved_model"], job["output"], **job["options"]
        )
    except OSError as error:
        print(error, file=sys.stderr)
        return _OS_ERROR_STATUS
    except Exception as error:
        # TensorFlow's own files say of a full disk what its operations say of anything.
        if "tensorflow" in sys.modules:
            from tensorflow.errors import OpError

            if isinstance(error, OpError) and Path(job["output"]).name in str(error):
                print(f"Cannot write: {error.message}".replace("\n", " "), file=sys.stderr)
                return _OS_ERROR_STATUS
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
