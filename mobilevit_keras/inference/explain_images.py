import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mobilevit_keras.data import preprocess
from mobilevit_keras.data.geometry import Geometry, evaluation_geometry
from mobilevit_keras.files import atomic_path
from mobilevit_keras.inference.files import picture_files, read_in_batches
from mobilevit_keras.models import MobileViTImageClassifier, class_names_of
from mobilevit_keras.palette import heat_overlay

HEAT_ENDING = ".heat.jpg"
"""What follows an image's name in the name of its heat map."""

Image = str | Path | np.ndarray
"""An image file, or pixels `(H, W, 3)`, RGB of 0 to 255."""


@dataclasses.dataclass(frozen=True, eq=False)
class ExplainedImage:
    """Where in an image a classifier's answer comes from.

    Attributes:
        path: The image file; None of pixels.
        size: Height and width of the image, upright.
        class_names: Names of the classes.
        probabilities: float32 `(K,)`.
        heat_map: float32 `(h, w, K)`: the score of each class at each place that the model sees.
            Their mean over the places are the logits, whose softmax are the probabilities.
        attention: How much attention each place receives in each block, float32 `(h, w)` by the
            names of the stages, "P3" to "P5"; the sum of each is 1.
        chosen: Number of the class that is drawn.
        geometry: Which part of the image the model sees; the maps cover it.
        pictures: What was written.
    """

    path: Path | None
    size: tuple[int, int]
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    heat_map: np.ndarray
    attention: Mapping[str, np.ndarray]
    chosen: int
    geometry: Geometry
    pictures: tuple[Path, ...] = ()

    def heat(self) -> np.ndarray:
        """How much of the chosen class there is at each pixel of the image.

        By how much its score is above the mean of all classes' at the same place, which is what
        softmax sees of it, over the most of it in the image.

        Returns:
            float32 `(H, W)`, 0 to 1; NaN where the model does not look.
        """
        scores = self.heat_map - self.heat_map.mean(axis=-1, keepdims=True)
        return self._laid_over(scores[..., self.chosen])

    def attention_of(self, block: str) -> np.ndarray:
        """How much attention each pixel of the image receives in a block, likewise."""
        return self._laid_over(self.attention[block])

    def _laid_over(self, values: np.ndarray) -> np.ndarray:
        values = np.maximum(values, 0.0)
        values = values / max(float(values.max()), np.finfo(np.float32).tiny)
        return self.geometry.scores_back(tf.constant(values, tf.float32), self.size).numpy()


def explain_images(
    model: MobileViTImageClassifier,
    images: Image | Iterable[Image],
    folder: str | Path | None = None,
    class_name: str | None = None,
    attention: bool = True,
    batch_size: int = 8,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> list[ExplainedImage]:
    """Finds where in images a classifier's answers come from.

    Args:
        model: A trained classifier; without class names the classes are called "0", "1" and so on.
        images: Image files, or pixels: arrays `(H, W, 3)`, RGB of 0 to 255. One or several.
        folder: Where to write NAME.heat.jpg of each, the image with its heat map, and with
            `attention` NAME.P3.jpg to NAME.P5.jpg; by default nothing is written. Images of one
            name are numbered in the order in which they come; pixels have no name but a number.
        class_name: The class to draw; each image's most probable one by default.
        attention: Whether to find the attention in each block too, which takes as long again.
        batch_size: Images in the model at once.
        unreadable: Told of each file that cannot be read and why; it is left out. Without it the
            first one is an error.

    Returns:
        One answer for each image in the given order.

    Raises:
        ValueError: If the model is no classifier or has no such class, a file is no image,
            `batch_size` is not positive, or a picture would replace one of the images.
        OSError: If a file cannot be read or written.
    """
    return list(
        iterate_explained(model, images, folder, class_name, attention, batch_size, unreadable)
    )


def iterate_explained(
    model: MobileViTImageClassifier,
    images: Image | Iterable[Image],
    folder: str | Path | None = None,
    class_name: str | None = None,
    attention: bool = True,
    batch_size: int = 8,
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> Iterator[ExplainedImage]:
    """The same one image after another; see `explain_images`."""
    if not isinstance(model, MobileViTImageClassifier):
        raise ValueError(f"A classifier is needed. Received: a {type(model).__name__}.")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive. Received: {batch_size}.")
    names = class_names_of(model)
    if class_name is not None and class_name not in names:
        listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise ValueError(
            f"The class to draw must be one of the model's: {listed}. Received: {class_name!r}."
        )
    chosen = None if class_name is None else names.index(class_name)
    if isinstance(images, str | Path) or getattr(images, "ndim", None) == 3:
        images = [images]
    images = [Path(image) if isinstance(image, str | Path) else image for image in images]
    pictures = [()] * len(images)
    if folder is not None:
        named = [
            image if isinstance(image, Path) else Path(str(number))
            for number, image in enumerate(images, start=1)
        ]
        blocks = ("P3", "P4", "P5") if attention else ()
        endings = (HEAT_ENDING, *(f".{block}.jpg" for block in blocks))
        pictures = picture_files(named, Path(folder), endings)
    prepared = model.preprocessing
    for read in read_in_batches(zip(images, pictures, strict=True), batch_size, unreadable):
        inputs = preprocess([pixels for _, _, pixels in read], **dataclasses.asdict(prepared))
        found = model.with_heat_map(inputs)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(found["logits"]))
        heat_maps = keras.ops.convert_to_numpy(found["heat_map"])
        shares = model.backbone.attention(inputs) if attention else {}
        shares = {block: keras.ops.convert_to_numpy(part) for block, part in shares.items()}
        for number, (image, files, pixels) in enumerate(read):
            size = np.shape(pixels)[:2]
            answer = ExplainedImage(
                path=image if isinstance(image, Path) else None,
                size=size,
                class_names=names,
                probabilities=probabilities[number],
                heat_map=heat_maps[number],
                attention={block: part[number] for block, part in shares.items()},
                chosen=int(probabilities[number].argmax()) if chosen is None else chosen,
                geometry=evaluation_geometry(
                    tf.constant(size), prepared.short_side, prepared.crop_size, prepared.resize
                ),
                pictures=files,
            )
            if files:
                _write(answer, np.rint(pixels).astype(np.uint8))
            yield answer


def _write(answer: ExplainedImage, pixels: np.ndarray) -> None:
    from PIL import Image as Picture

    heats = [answer.heat(), *map(answer.attention_of, answer.attention)]
    for file, heat in zip(answer.pictures, heats, strict=True):
        with atomic_path(file) as temporary:
            Picture.fromarray(heat_overlay(pixels, heat)).save(temporary, quality=90)
