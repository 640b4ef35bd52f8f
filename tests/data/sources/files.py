"""Image files and masks for the tests of sources."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from mobilevit_keras.data import EvaluationDataset, MultiScaleDataset, SkippedImages
from tests.data.images import encode, smooth_image


def names(source, split, **options):
    """The names of a split's records."""
    examples = source.examples(split, **options).as_numpy_iterator()
    return [example["name"].decode() for example in examples]


def write_image(path: Path, seed: int = 0, height: int = 24, width: int = 36) -> None:
    """Writes an image in the format of its extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[path.suffix]
    path.write_bytes(encode(smooth_image(seed, height, width), kind))


def record_of(image: Path, mask: Path | None = None) -> dict[str, bytes]:
    """What a source of files knows of an image."""
    name = os.fsencode(image)
    record = {"name": name, "image": name}
    return record if mask is None else {**record, "mask": os.fsencode(mask)}


def numbers(seed: int, num_classes: int = 3, height: int = 24, width: int = 36) -> np.ndarray:
    """A mask of a few rectangles, with some pixels of no class."""
    random = np.random.default_rng(seed)
    mask = np.full((height, width), random.integers(num_classes), np.uint8)
    for value in (*range(num_classes), 255):
        top, left = random.integers(height - 8), random.integers(width - 8)
        mask[top : top + 8, left : left + 8] = value
    return mask


def write_mask(path: Path, mask: np.ndarray, palette: bool = False) -> None:
    """Writes a mask as a PNG file, grey or with the colours of a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if palette:
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    image.save(path)


def read(source, split="train", crop_size=16):
    """All that evaluation makes of a split, and what it skipped."""
    skipped = SkippedImages()
    dataset = EvaluationDataset(
        source,
        split,
        crop_size=crop_size,
        resize="stretch",
        whole_targets=True,
        batch_size=1,
        skipped=skipped,
    )
    return [y for _, y in dataset], skipped


def train_on(source, **options):
    """The batches of an epoch of training."""
    dataset = MultiScaleDataset(
        source, sizes=(32,), base_size=32, batch_size=8, augmentation="none", **options
    )
    with dataset.clear_errors():
        return list(dataset), dataset.skipped
