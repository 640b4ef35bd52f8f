"""A folder of images for each class."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.source import SPLITS, Source, permutation

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


class ImageFolder(Source):
    """Images in one folder for each class: `PATH/CLASS/…/image.jpg`.

    `PATH/train/CLASS` and `PATH/validation/CLASS`, where both exist, are the two splits. Without
    them a fixed part of each class is held out. Class indices follow the sorted folder names. Files
    are told by extension (JPEG, PNG, BMP, GIF); hidden ones and all others are left out.

    The file names are listed once, here; a file that vanishes later counts as unreadable.

    Args:
        path: The folder.
        seed: Seed of the split, where there is none on disk.
        validation_fraction: Part of each class's images that is held out, where there is no
            `validation` folder; at least one image of each class that has two or more.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two classes, or a class or split without images.
    """

    def __init__(self, path: str | Path, *, seed: int = 0, validation_fraction: float = 0.2):
        self.path = Path(path)
        if not 0.0 < validation_fraction < 1.0:
            raise ValueError(
                f"`validation_fraction` must be between 0 and 1. Received: {validation_fraction}."
            )
        if not self.path.is_dir():
            raise FileNotFoundError(f"A folder of images is needed. Received: {self.path}.")
        if self._has_split_folders():
            splits = {split: _list_classes(self.path / split) for split in SPLITS}
            class_names = tuple(splits["train"])
            unknown = sorted(set(splits["validation"]) - set(class_names))
            if unknown:
                raise ValueError(
                    f"{self}: every class of 'validation' must be in 'train'. Received: {unknown}."
                )
        else:
            classes = _list_classes(self.path)
            class_names = tuple(classes)
            splits = _hold_out(classes, seed, validation_fraction)
        files, labels = {}, {}
        for split, classes in splits.items():
            files[split] = [file for names in classes.values() for file in names]
            labels[split] = [
                class_names.index(key) for key, names in classes.items() for _ in names
            ]
        super().__init__(class_names, {split: len(names) for split, names in files.items()})
        # Eager tensors are passed to dataset functions by reference; a Python list would become a
        # constant inside each graph.
        self._files = {split: tf.constant(names) for split, names in files.items()}
        self._labels = {split: tf.constant(values, tf.int64) for split, values in labels.items()}

    def __str__(self) -> str:
        return f"folder:{self.path}"

    def _has_split_folders(self) -> bool:
        present = [split for split in SPLITS if _has_subfolders(self.path / split)]
        if len(present) == 1:
            missing = next(split for split in SPLITS if split not in present)
            raise ValueError(
                f"{self}: a folder with {present[0]!r} of classes also needs {missing!r}. "
                f"Received: {sorted(entry.name for entry in self.path.iterdir())[:10]}."
            )
        return len(present) == 2

    def records(self, split: str, seed: tf.Tensor | None, start: tf.Tensor) -> tf.data.Dataset:
        self.check_split(split)
        files, labels = self._files[split], self._labels[split]
        if seed is not None:
            length = self.num_examples(split)
            order = tf.numpy_function(
                lambda pair: permutation(pair, length), [seed], tf.int64, stateful=False
            )
            order = tf.ensure_shape(order, (length,))[start:]
            files, labels = tf.gather(files, order), tf.gather(labels, order)
        else:
            files, labels = files[start:], labels[start:]
        return tf.data.Dataset.from_tensor_slices({"image": files, "label": labels, "name": files})

    def load(self, image: tf.Tensor) -> tf.Tensor:
        return tf.io.read_file(image)


def _has_subfolders(path: Path) -> bool:
    return path.is_dir() and any(entry.is_dir() for entry in path.iterdir())


def _list_classes(path: Path) -> dict[str, list[str]]:
    """Returns the sorted image files of each class folder, in the order of sorted class names."""
    names = sorted(
        entry.name for entry in path.iterdir() if entry.name[0] != "." and entry.is_dir()
    )
    if not names:
        raise ValueError(f"A folder of images needs a folder for each class. Received: {path}.")
    classes = {name: _list_images(path / name) for name in names}
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise ValueError(
            f"Every class folder must hold images ({', '.join(EXTENSIONS)}). "
            f"Received: {path} with nothing in {empty[:10]}."
        )
    return classes


def _list_images(path: Path) -> list[str]:
    files = []
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        files += [
            os.path.join(folder, name)
            for name in names
            if name[0] != "." and name.lower().endswith(EXTENSIONS)
        ]
    return sorted(files)


def _hold_out(
    classes: dict[str, list[str]], seed: int, fraction: float
) -> dict[str, dict[str, list[str]]]:
    """Splits every class by the same fraction."""
    splits: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    for index, (name, files) in enumerate(classes.items()):
        held_out = min(max(1, round(len(files) * fraction)), len(files) - 1)
        order = permutation((seed, index), len(files))
        ordered = np.asarray(files, object)
        splits["validation"][name] = list(ordered[np.sort(order[:held_out])])
        splits["train"][name] = list(ordered[np.sort(order[held_out:])])
    return splits
