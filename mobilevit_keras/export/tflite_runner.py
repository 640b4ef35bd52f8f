"""Runs `.tflite` files as a phone's CPU does: the LiteRT interpreter with XNNPACK."""

import time
from pathlib import Path

import numpy as np

from mobilevit_keras.export.results import Results, check_images


def open_interpreter(path: str | Path, num_threads: int = 1, use_xnnpack: bool = True):
    """Opens a file in the LiteRT interpreter, tensors allocated.

    Args:
        path: The `.tflite` file.
        num_threads: Threads of an inference.
        use_xnnpack: Whether XNNPACK may take operations over, as it does by default.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TFLite model.
        ImportError: If ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise ImportError(
            "Running .tflite files needs ai-edge-litert: pip install 'mobilevit_keras[export]'."
        ) from error
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no model file {path}.")
    resolver = (
        OpResolverType.AUTO if use_xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    try:
        interpreter = Interpreter(
            str(path), num_threads=num_threads, experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"A TFLite model is needed. Received: {path} ({error}).") from error
    return interpreter


def run_tflite(path: str | Path, images: np.ndarray, num_threads: int = 1) -> Results:
    """Runs an exported classifier on images, one after another.

    Args:
        path: The `.tflite` file.
        images: `(N, H, W, 3)`, RGB, 0..255.
        num_threads: Threads of an inference.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TFLite model or takes images of another size.
    """
    interpreter = open_interpreter(path, num_threads)
    (entry,), (exit_,) = interpreter.get_input_details(), interpreter.get_output_details()
    check_images(images, *entry["shape"][1:3])
    if np.issubdtype(entry["dtype"], np.integer):
        images = np.rint(images)
    outputs, milliseconds = [], []
    for image in images:
        interpreter.set_tensor(entry["index"], image[None].astype(entry["dtype"]))
        start = time.perf_counter()
        interpreter.invoke()
        milliseconds.append(1000.0 * (time.perf_counter() - start))
        outputs.append(interpreter.get_tensor(exit_["index"])[0])
    return Results(np.stack(outputs).astype(np.float32), np.array(milliseconds))


def export_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the images that a `.tflite` file takes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TFLite model.
    """
    _, height, width, _ = open_interpreter(path).get_input_details()[0]["shape"]
    return int(height), int(width)
