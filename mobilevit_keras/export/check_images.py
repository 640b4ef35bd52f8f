"""Images on which an export is compared with Keras."""

import dataclasses
from pathlib import Path

import numpy as np

from mobilevit_keras.models import Preprocessing
from mobilevit_keras.source_kinds import is_data_source

DEFAULT_COUNT = 32
CALIBRATION_COUNT = 256


def open_check_images(
    source: str | Path | np.ndarray | None,
    height: int,
    width: int,
    preprocessing: Preprocessing,
    count: int = DEFAULT_COUNT,
) -> np.ndarray:
    """Returns images as an exported model takes them.

    Args:
        source: An image file or folder; a data source such as "digits" or "folder:PATH", whose
            first validation images are taken, and eight generated ones; images as an array
            `(N, height, width, 3)`, 0..255; or None for scikit-learn's two photographs, or
            generated images without them.
        height, width: Size of the images; see `Preprocessing.at_size` where it is not that of
            `preprocessing`'s crop.
        preprocessing: How images are resized and cropped.
        count: The most images of files and data sources, the generated ones among them.

    Returns:
        float32 `(N, height, width, 3)`, 0..255.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If there are no images or an array has another shape.
    """
    if isinstance(source, np.ndarray):
        images = np.asarray(source, np.float32)
        if images.ndim != 4 or images.shape[1:] != (height, width, 3) or not len(images):
            raise ValueError(
                f"Images must be (N, {height}, {width}, 3). Received: {tuple(images.shape)}."
            )
        return images
    if source is None:
        return _photographs(height, width) if _has_sklearn() else generated_images(height, width)
    coloured = generated_images(height, width)
    read = _read(source, (height, width), preprocessing, "validation", count - len(coloured))
    # A person's images may be few, alike, or grey: what exchanges colours would pass unnoticed.
    return np.concatenate([255.0 * read, coloured])


def open_calibration_images(
    source: str | Path | np.ndarray,
    height: int,
    width: int,
    preprocessing: Preprocessing,
    count: int = CALIBRATION_COUNT,
) -> np.ndarray:
    """Returns images to measure ranges on; of a data source, training images of all classes.

    Args:
        source, height, width, preprocessing, count: See `open_check_images`.

    Returns:
        float32 `(N, height, width, 3)`, 0..255.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If there are no images, every image is of one colour, or an array has another
            shape.
    """
    if isinstance(source, np.ndarray):
        images = open_check_images(source, height, width, preprocessing)
    else:
        images = 255.0 * _read(source, (height, width), preprocessing, "train", count)
    if np.all(np.ptp(images, axis=(1, 2)) == 0):
        raise ValueError(
            "Calibration needs images of more than one colour each. "
            f"Received: {len(images)} images, each of one colour, from {source_name(source)}."
        )
    return images


def source_name(source: str | Path | np.ndarray) -> str:
    return "an array" if isinstance(source, np.ndarray) else str(source)


def _read(
    source: str | Path, size: tuple[int, int], preprocessing: Preprocessing, split: str, count: int
) -> np.ndarray:
    """Images of files or a data source, `(N, H, W, 3)` in [0, 1]."""
    from mobilevit_keras.data import image_extensions, load_images, open_source, take_images

    wanted = dataclasses.replace(preprocessing.at_size(size), crop_size=size)
    if is_data_source(source):
        images, skipped = take_images(open_source(source), split, wanted, count)
        if skipped.count:
            print(skipped)
        return images
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"There is no image file or folder {path}.")
    paths = [path]
    if path.is_dir():
        suffixes = image_extensions()
        paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes)
    if not paths:
        raise ValueError(f"The folder must hold images. Received: {path}.")
    return load_images(_spread(paths, count), **dataclasses.asdict(wanted))


def _spread(paths: list[Path], count: int) -> list[Path]:
    """At most `count` of the paths, from the whole list: folders hold class after class."""
    step = max(1.0, len(paths) / count)
    return [paths[int(index * step)] for index in range(min(count, len(paths)))]


def _has_sklearn() -> bool:
    try:
        import sklearn.datasets  # noqa: F401
    except ImportError:
        return False
    return True


def _photographs(height: int, width: int, count: int = 8) -> np.ndarray:
    """Crops of two photographs at several scales, the same ones each time."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    generator = np.random.default_rng(0)
    images = np.empty((count, height, width, 3), np.float32)
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        scale = generator.uniform(0.3, 1.0) * min(
            photograph.width / width, photograph.height / height
        )
        crop_width, crop_height = scale * width, scale * height
        left = generator.uniform(0.0, photograph.width - crop_width)
        top = generator.uniform(0.0, photograph.height - crop_height)
        box = (left, top, left + crop_width, top + crop_height)
        images[index] = photograph.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return images


def generated_images(height: int, width: int, count: int = 8) -> np.ndarray:
    """Images with a photograph's spectrum (amplitude falls as 1 / frequency), always the same.

    Returns:
        float32 `(count, height, width, 3)`, 0..255.
    """
    generator = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    amplitude = 1.0 / np.maximum(frequency, 1.0 / max(height, width))
    noise = np.fft.rfft2(generator.normal(size=(count, 3, height, width)))
    images = np.fft.irfft2(noise * amplitude, s=(height, width)).transpose(0, 2, 3, 1)
    low, high = images.min(axis=(1, 2, 3), keepdims=True), images.max(axis=(1, 2, 3), keepdims=True)
    return (255.0 * (images - low) / (high - low)).astype(np.float32)
