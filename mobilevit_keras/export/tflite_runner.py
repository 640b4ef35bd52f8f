"""Runs `.tflite` files as a phone's CPU does: the LiteRT interpreter with XNNPACK."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mobilevit_keras.export.results import Results, check_images, concatenate


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
    """Runs an exported model on images, one after another.

    Args:
        path: The `.tflite` file.
        images: `(N, H, W, 3)`, RGB, 0..255.
        num_threads: Threads of an inference.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TFLite model or takes images of another size.
    """
    return concatenate(iterate_tflite(path, [images], num_threads))


def iterate_tflite(
    path: str | Path, batches: Iterable[np.ndarray], num_threads: int = 1
) -> Iterator[Results]:
    """The same for one batch after another, with one interpreter."""
    interpreter = open_interpreter(path, num_threads)
    (entry,) = interpreter.get_input_details()
    exits = _outputs_by_name(interpreter)
    for images in batches:
        check_images(images, *entry["shape"][1:3])
        if np.issubdtype(entry["dtype"], np.integer):
            images = np.rint(images)
        outputs, milliseconds = {name: [] for name in exits}, []
        for image in images:
            interpreter.set_tensor(entry["index"], image[None].astype(entry["dtype"]))
            start = time.perf_counter()
            interpreter.invoke()
            milliseconds.append(1000.0 * (time.perf_counter() - start))
            for name, index in exits.items():
                outputs[name].append(interpreter.get_tensor(index)[0])
        yield Results(
            {name: np.stack(values).astype(np.float32) for name, values in outputs.items()},
            np.array(milliseconds),
        )


def _outputs_by_name(interpreter) -> dict[str, int]:
    """Index of each output by its name in the signature; by the tensor's without a signature."""
    signatures = interpreter.get_signature_list()
    if len(signatures) == 1:
        details = interpreter.get_signature_runner(*signatures).get_output_details()
        return {name: detail["index"] for name, detail in details.items()}
    return {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}


def export_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the images that a `.tflite` file takes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TFLite model.
    """
    _, height, width, _ = open_interpreter(path).get_input_details()[0]["shape"]
    return int(height), int(width)
