"""Photos for tests that train: classes that colour tells apart."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_coloured_photos(
    folder: Path, channels: dict[str, int], count: int, name: str = "{}.jpg"
) -> None:
    """Writes `count` noisy pictures of 50 x 40 pixels for each class, one channel of them bright.

    Args:
        folder: An existing folder; each class gets one in it.
        channels: The bright channel of each class.
        count: Pictures of a class.
        name: Their names; "{}" becomes the number.
    """
    rng = np.random.default_rng(0)
    for class_name, channel in channels.items():
        (folder / class_name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 80, (40, 50, 3), "uint8")
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / class_name / name.format(i))
