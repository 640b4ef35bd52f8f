"""What is exported: scaling, the folded model and its task's outputs at one size, a SavedModel."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, converted
from mobilevit_keras.layers.forms import QUANTIZED
from mobilevit_keras.models import VisionTask
from mobilevit_keras.paper import MINIMUM_SIZE
from mobilevit_keras.tasks import Task

INPUT_NAME = "image"
SIGNATURE = "serving_default"


def check_export_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width).

    Raises:
        ValueError: If a side is under 32.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < MINIMUM_SIZE:
        raise ValueError(
            f"`size` must be at least {MINIMUM_SIZE} pixels. Received: {height}x{width}."
        )
    return height, width


def as_float32(model: VisionTask) -> VisionTask:
    """Returns `model` itself, or its twin in float32 where it computes in lower precision."""
    if model.backbone.config["dtype"] == "float32":
        return model
    twin = model.rebuilt(dtype="float32")
    twin.set_weights(model.get_weights())
    return twin


def keras_outputs(
    model: VisionTask, task: Task, images: np.ndarray, batch_size: int = 8
) -> dict[str, np.ndarray]:
    """What a file of the trained model should answer, computed in float32.

    Args:
        model: A model in any form.
        task: Its task.
        images: `(N, H, W, 3)`, 0..255.
        batch_size: Images at a time.

    Returns:
        float32 arrays `(N, …)` by name.
    """
    model = as_float32(model)
    scaled = images.astype(np.float32) / 255.0
    parts = [
        task.serve(task.call(model, scaled[start : start + batch_size]))
        for start in range(0, len(scaled), batch_size)
    ]
    return {
        name: np.concatenate([keras.ops.convert_to_numpy(part[name]) for part in parts])
        for name in parts[0]
    }


@contextlib.contextmanager
def serving_directory(
    deployed: VisionTask, task: Task, size: tuple[int, int], scales: bool = True
) -> Iterator[Path]:
    """Yields a SavedModel that lasts as long as the block.

    It takes `image`, float32 `(1, H, W, 3)` in 0..255, and gives the task's outputs by name.

    Args:
        deployed: A model in the form "deployment" or "quantized".
        task: Its task.
        size: Height and width.
        scales: Whether 0..255 is scaled to [0, 1]. Without it [0, 1] is what the SavedModel takes,
            and the bytes of a uint8 input are that already: its grid has the step 1 / 255.

    Raises:
        OSError: If the temporary folder cannot be written.
    """
    is_quantized = deployed.form == QUANTIZED
    with tempfile.TemporaryDirectory(prefix="mobilevit_keras-") as name:
        directory = Path(name) / "serving"
        with converted(deployed), task.converting(deployed) as serve:

            def answer(image):
                outputs = task.call(deployed, image * (1.0 / 255.0) if scales else image)
                if is_quantized:
                    # Of int8 logits softmax would be int8 too, and XNNPACK has none.
                    outputs = tf.nest.map_structure(lambda values: values * FLOAT_AGAIN, outputs)
                return serve(outputs)

            save_serving(answer, size, directory)
        yield directory


def save_serving(
    answer: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
    size: tuple[int, int],
    directory: Path,
) -> None:
    """Saves a function of one image as a SavedModel with the names of an export.

    Args:
        answer: Takes float32 `(1, H, W, 3)` in 0..255, gives outputs by name.
        size: Height and width.
        directory: The folder to write.

    Raises:
        OSError: If it cannot be written.
    """
    # The batch is fixed to 1: delegates want static shapes and a phone looks at one image.
    image = tf.TensorSpec((1, *size, 3), tf.float32, name=INPUT_NAME)
    traced = tf.function(answer, autograph=False).get_concrete_function(image)
    # With its weights as constants the graph converts in half the time, and the TFLite converter
    # cannot leave them in the file as variables, which delegates refuse.
    frozen = convert_variables_to_constants_v2(traced)
    # A frozen function answers with a list, in the order of the sorted names.
    names = sorted(traced.structured_outputs)
    module = tf.Module()
    module.serve = tf.function(
        lambda image: dict(zip(names, frozen(image), strict=True)), autograph=False
    )
    try:
        tf.saved_model.save(
            module,
            str(directory),
            signatures={SIGNATURE: module.serve.get_concrete_function(image)},
            # SiLU's own gradient is saved by default, and cannot be without its variables.
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
    except tf.errors.OpError as error:
        raise OSError(f"Cannot write to {directory}: {error.message}") from error
