import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.boxes import RULES
from mobilevit_keras.data import preprocess
from mobilevit_keras.data.preview import draw_boxes
from mobilevit_keras.files import atomic_path
from mobilevit_keras.inference.files import picture_files, read_in_batches
from mobilevit_keras.models import MobileViTObjectDetector, class_names_of

# One pixel of a frame for each so many of the image's shorter side.
_SIDE_OF_A_LINE = 300


@dataclasses.dataclass(frozen=True, eq=False)
class DetectedImage:
    """What a detector finds in an image file, the surest first.

    Attributes:
        path: The image file.
        size: Height and width of the image, upright.
        boxes: float32 `(N, 4)`, left, top, right, bottom in its pixels.
        labels: int32 `(N,)`, numbers of the classes.
        scores: float32 `(N,)`, probabilities.
        class_names: Names of the classes.
        picture: The image with the boxes drawn; None where none was written.
    """

    path: Path
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    class_names: tuple[str, ...]
    picture: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """It as JSON values."""
        return {
            "image": str(self.path),
            "height": self.size[0],
            "width": self.size[1],
            "boxes": [
                {
                    "class": self.class_names[label],
                    "score": round(float(score), 4),
                    "left": round(float(box[0]), 1),
                    "top": round(float(box[1]), 1),
                    "right": round(float(box[2]), 1),
                    "bottom": round(float(box[3]), 1),
                }
                for box, label, score in zip(self.boxes, self.labels, self.scores, strict=True)
            ],
        }


def detect_images(
    model: MobileViTObjectDetector,
    paths: Iterable[str | Path],
    folder: str | Path | None = None,
    batch_size: int = 8,
    score_threshold: float = 0.3,
    rule: str = "paper",
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> list[DetectedImage]:
    """Finds what is where in image files.

    Each image is stretched to the model's size as a whole, and the boxes back to the image's own.

    Args:
        model: A trained detector; without class names the classes are called "0", "1" and so on.
        paths: Image files.
        folder: Where to write NAME.boxes.jpg of each, the image with its boxes; by default nothing
            is written. Images of one name are numbered in the order in which they come.
        batch_size: Images in the model at once.
        score_threshold: What a box's score must be above.
        rule: How boxes that lie on each other go, one of `mobilevit_keras.boxes.RULES`: "paper", in
            each class by itself; "mediapipe", whatever their classes.
        unreadable: Told of each file that cannot be read and why; it is left out. Without it the
            first one is an error.

    Returns:
        One answer for each file in the given order.

    Raises:
        ValueError: If the model is no detector, a file is no image, an argument is out of its range
            or a picture would replace one of the images.
        OSError: If a file cannot be read or written.
    """
    return list(
        iterate_detected(model, paths, folder, batch_size, score_threshold, rule, unreadable)
    )


def iterate_detected(
    model: MobileViTObjectDetector,
    paths: Iterable[str | Path],
    folder: str | Path | None = None,
    batch_size: int = 8,
    score_threshold: float = 0.3,
    rule: str = "paper",
    unreadable: Callable[[Path, Exception], None] | None = None,
) -> Iterator[DetectedImage]:
    """The same one image after another; see `detect_images`."""
    if not isinstance(model, MobileViTObjectDetector):
        raise ValueError(f"A detector is needed. Received: a {type(model).__name__}.")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive. Received: {batch_size}.")
    if not 0.0 <= score_threshold < 1.0:
        raise ValueError(
            f"`score_threshold` must be at least 0 and below 1. Received: {score_threshold}."
        )
    if rule not in RULES:
        raise ValueError(f"`rule` must be one of {tuple(RULES)}. Received: {rule!r}.")
    paths = [Path(path) for path in paths]
    pictures = [(None,)] * len(paths)
    if folder is not None:
        pictures = picture_files(paths, Path(folder), (".boxes.jpg",))
    arguments = {"score_threshold": score_threshold, **RULES[rule]}
    # All of each image is looked at, whatever the model's preprocessing would cut off.
    wanted = {**dataclasses.asdict(model.preprocessing), "resize": "stretch"}
    names = class_names_of(model)
    for read in read_in_batches(zip(paths, pictures, strict=True), batch_size, unreadable):
        sizes = [pixels.shape[:2] for _, _, pixels in read]
        inputs = preprocess([pixels for _, _, pixels in read], **wanted)
        found = model.detect(inputs, sizes, **arguments)
        for (path, (picture,), pixels), of_image in zip(read, found, strict=True):
            answer = DetectedImage(path, pixels.shape[:2], **of_image, class_names=names)
            if picture is not None:
                _write(answer, pixels, picture)
                answer = dataclasses.replace(answer, picture=picture)
            yield answer


def draw_detections(answer: DetectedImage, pixels: np.ndarray) -> np.ndarray:
    """An image with what was found in it: frames, class names and scores.

    Args:
        answer: What was found.
        pixels: The image, uint8 `(H, W, 3)`.
    """
    texts = [
        f"{answer.class_names[label]} {100 * score:.0f}%"
        for label, score in zip(answer.labels, answer.scores, strict=True)
    ]
    width = max(1, round(min(answer.size) / _SIDE_OF_A_LINE))
    return draw_boxes(pixels, answer.boxes, answer.labels, answer.class_names, texts, width)


def _write(answer: DetectedImage, pixels: np.ndarray, picture: Path) -> None:
    from PIL import Image

    with atomic_path(picture) as temporary:
        Image.fromarray(draw_detections(answer, pixels)).save(temporary, quality=90)
