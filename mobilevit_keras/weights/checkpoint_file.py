"""Opens checkpoint files without PyTorch and without running anything they hold."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobilevit_keras.weights.tensors import Tensor
from mobilevit_keras.weights.torch_archive import open_torch_archive

PYTORCH_SUFFIXES = (".pt", ".pth", ".bin")
SAFETENSORS_SUFFIX = ".safetensors"


@contextlib.contextmanager
def open_checkpoint(path: str | Path) -> Iterator[tuple[dict[str, Tensor], dict[str, str]]]:
    """Yields the tensors of a checkpoint by name, readable inside the block, and its texts.

    Args:
        path: A `.safetensors` file, or a `.pt`, `.pth` or `.bin` file saved by PyTorch.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, of another kind, or holds more than tensors and plain
            containers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A checkpoint must be an existing file. Received: {path}.")
    if path.suffix == SAFETENSORS_SUFFIX:
        with _open_safetensors(path) as opened:
            yield opened
    elif path.suffix in PYTORCH_SUFFIXES:
        with open_torch_archive(path) as tensors:
            yield tensors, {}
    else:
        raise ValueError(
            "A checkpoint's name must end in one of "
            f"{', '.join((*PYTORCH_SUFFIXES, SAFETENSORS_SUFFIX))}. Received: {path}."
        )


@contextlib.contextmanager
def _open_safetensors(path: Path) -> Iterator[tuple[dict[str, Tensor], dict[str, str]]]:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = {}
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                shape = tuple(file.get_slice(name).get_shape())
                tensors[name] = Tensor(shape, lambda name=name: _read_safetensors(path, name))
            texts = file.metadata() or {}
        yield tensors, texts
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"A safetensors file must be whole. Received: a damaged one ({error})."
        ) from error


def _read_safetensors(path: Path, name: str) -> np.ndarray:
    import safetensors

    # An open file is mapped into memory and stays there as far as it was read.
    with safetensors.safe_open(path, framework="numpy") as file:
        return file.get_tensor(name)
