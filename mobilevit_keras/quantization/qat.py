"""Quantization-aware models: a trained model with int8's rounding in every place it will have.

The placement is that of the layers' form "quantized". It is the same for a model that is trained
on (quantization-aware training) and for one that is only calibrated (post-training quantization).
"""

from collections.abc import Iterable

import keras
import numpy as np

from mobilevit_keras.layers.fake_quant import measure_input_steps, observed, quantizers_of
from mobilevit_keras.layers.forms import QUANTIZED
from mobilevit_keras.models import VisionTask
from mobilevit_keras.quantization.fold import fold


def quantize_aware(
    model: VisionTask, images: np.ndarray | Iterable[np.ndarray] | None = None
) -> VisionTask:
    """Returns the quantization-aware twin of a trained float model, to be trained on.

    Train it for a small part of the float schedule at a low rate, then call `freeze_ranges` (or let
    `FreezeRanges` do it) and train on. It converts without calibration data.

    Args:
        model: A model in the form "training".
        images: Images to start the ranges of the activations from, `(N, H, W, 3)` in [0, 1] or
            batches of them. Without them the first training batch does.

    Raises:
        ValueError: If the model is of another class or form, an activation has no int8 form, or the
            images are none or all of one colour.
    """
    twin = fold(model, form=QUANTIZED)
    if images is not None:
        calibrate(twin, images)
    return twin


def calibrate(
    model: VisionTask, images: np.ndarray | Iterable[np.ndarray], batch_size: int = 8
) -> int:
    """Sets every range to the mean of the batches' smallest and largest values.

    Args:
        model: A model in the form "quantized".
        images: `(N, H, W, 3)` in [0, 1], or batches of them.
        batch_size: Images at a time, where `images` is one array.

    Returns:
        The number of images.

    Raises:
        ValueError: If there are no images, or every image is of one colour.
    """
    if isinstance(images, np.ndarray):
        images = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    count, is_constant = 0, True
    with observed(model) as quantizers:
        for batch in images:
            batch = np.asarray(batch, np.float32)
            count += len(batch)
            is_constant &= bool(np.all(np.ptp(batch, axis=(1, 2)) == 0))
            model(batch, training=False)
    if not count:
        raise ValueError("Calibration needs images. Received: none.")
    if is_constant:
        raise ValueError(
            "Calibration needs images of more than one colour each. "
            f"Received: {count} images, each of one colour."
        )
    for quantizer in quantizers:
        quantizer.set_range(*np.mean(quantizer.observed, axis=0))
        quantizer.observed.clear()
    measure_input_steps(model)
    return count


def freeze_ranges(model: keras.Model, is_frozen: bool = True) -> None:
    """Holds the ranges of the activations where they are, through further training.

    Raises:
        ValueError: If an activation to freeze has met no values yet.
    """
    if is_frozen:
        _check_measured(model)
    for quantizer in quantizers_of(model):
        quantizer.frozen.assign(int(is_frozen))
    measure_input_steps(model)


def settle_ranges(model: keras.Model) -> None:
    """Makes a twin compute with the ranges that it now has, as its file will.

    Raises:
        ValueError: If an activation has met no values yet.
    """
    _check_measured(model)
    for quantizer in quantizers_of(model):
        quantizer.set_range(float(quantizer.low), float(quantizer.high))
    measure_input_steps(model)


def _check_measured(model: keras.Model) -> None:
    for quantizer in quantizers_of(model):
        if not quantizer.has_range:
            raise ValueError(
                "Every range must have been measured by training or calibration. "
                f"Received: none in {quantizer.path}."
            )
