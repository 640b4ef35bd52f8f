"""What is exported: scaling, the folded model and softmax at one size, as a SavedModel."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, converted
from mobilevit_keras.layers.forms import QUANTIZED
from mobilevit_keras.models import MobileViTImageClassifier
from mobilevit_keras.paper import MINIMUM_SIZE

INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"
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


def as_float32(model: MobileViTImageClassifier) -> MobileViTImageClassifier:
    """Returns `model` itself, or its twin in float32 where it computes in lower precision."""
    config = model.get_config()
    if config["backbone"]["config"]["dtype"] == "float32":
        return model
    backbone = {**config["backbone"]["config"], "dtype": "float32"}
    twin = MobileViTImageClassifier.from_config(
        {**config, "backbone": {**config["backbone"], "config": backbone}}
    )
    twin.set_weights(model.get_weights())
    return twin


def keras_probabilities(
    model: MobileViTImageClassifier, images: np.ndarray, batch_size: int = 8
) -> np.ndarray:
    """What the trained model answers, computed in float32.

    Args:
        model: A classifier in any form.
        images: `(N, H, W, 3)`, 0..255.
        batch_size: Images at a time.

    Returns:
        float32 `(N, K)`.
    """
    model = as_float32(model)
    scaled = images.astype(np.float32) / 255.0
    parts = [
        keras.ops.softmax(model(scaled[start : start + batch_size], training=False))
        for start in range(0, len(scaled), batch_size)
    ]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


@contextlib.contextmanager
def serving_directory(
    deployed: MobileViTImageClassifier, size: tuple[int, int], scales: bool = True
) -> Iterator[Path]:
    """Yields a SavedModel that lasts as long as the block.

    It takes `image`, float32 `(1, H, W, 3)` in 0..255, and gives `probabilities`, `(1, K)`.

    Args:
        deployed: A classifier in the form "deployment" or "quantized".
        size: Height and width.
        scales: Whether 0..255 is scaled to [0, 1]. Without it [0, 1] is what the SavedModel takes,
            and the bytes of a uint8 input are that already: its grid has the step 1 / 255.

    Raises:
        OSError: If the temporary folder cannot be written.
    """
    is_quantized = deployed.backbone.config["form"] == QUANTIZED

    def answer(image):
        logits = deployed(image * (1.0 / 255.0) if scales else image, training=False)
        # Of int8 logits softmax would be int8 too, and XNNPACK has none.
        return tf.nn.softmax(logits * FLOAT_AGAIN if is_quantized else logits)

    with tempfile.TemporaryDirectory(prefix="mobilevit_keras-") as name:
        directory = Path(name) / "serving"
        with converted(deployed):
            save_serving(answer, size, directory)
        yield directory


def save_serving(
    answer: Callable[[tf.Tensor], tf.Tensor], size: tuple[int, int], directory: Path
) -> None:
    """Saves a function of one image as a SavedModel with the names of an export.

    Args:
        answer: Takes float32 `(1, H, W, 3)` in 0..255, gives `(1, K)`.
        size: Height and width.
        directory: The folder to write.

    Raises:
        OSError: If it cannot be written.
    """
    # The batch is fixed to 1: delegates want static shapes and a phone classifies one image.
    image = tf.TensorSpec((1, *size, 3), tf.float32, name=INPUT_NAME)
    # With its weights as constants the graph converts in half the time, and the TFLite converter
    # cannot leave them in the file as variables, which delegates refuse.
    frozen = convert_variables_to_constants_v2(tf.function(answer).get_concrete_function(image))
    module = tf.Module()
    module.serve = tf.function(lambda image: {OUTPUT_NAME: frozen(image)[0]})
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
