"""Image files that are read, and pictures that are written of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.data import read_image


def picture_files(
    paths: Sequence[Path], folder: Path, endings: Sequence[str]
) -> list[tuple[Path, ...]]:
    """Where the pictures of each image are written, such as NAME.mask.png.

    Args:
        paths: The images; of one name they are numbered.
        folder: Where the pictures go.
        endings: What follows the images' names.

    Raises:
        ValueError: If that is where one of the images lies.
    """
    images = {path.resolve() for path in paths}
    taken: set[str] = set()
    files = []
    for path in paths:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name)
        files.append(tuple(folder / f"{name}{ending}" for ending in endings))
        for file in files[-1]:
            if file.resolve() in images:
                raise ValueError(
                    "Pictures must not replace the images that they are made of. "
                    f"Received: {file} as both."
                )
    return files


def read_in_batches(
    items: Iterable[tuple[Path | np.ndarray, Any]],
    batch_size: int,
    unreadable: Callable[[Path, Exception], None] | None,
) -> Iterator[list[tuple[Path | np.ndarray, Any, np.ndarray]]]:
    """Yields images of a batch at a time: path, what came with it, and pixels, upright.

    Args:
        items: Paths, or pixels themselves, with anything.
        batch_size: How many at once; what cannot be read is left out.
        unreadable: Told of each file that cannot be read and why. Without it the first one is an
            error.

    Raises:
        ValueError: If a file is no image.
        OSError: If a file cannot be read.
    """
    items = list(items)
    for start in range(0, len(items), batch_size):
        read = []
        for path, item in items[start : start + batch_size]:
            try:
                pixels = read_image(path) if isinstance(path, Path) else path
                read.append((path, item, pixels))
            except (OSError, ValueError) as error:
                if unreadable is None:
                    raise
                unreadable(path, error)
        if read:
            yield read
