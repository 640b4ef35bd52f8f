"""Reads the zip files that `torch.save` writes, without PyTorch and without unpickling."""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.weights.pickle_data import StoredTensor, parse, read_tensor
from mobilevit_keras.weights.tensors import Tensor

MAXIMUM_MEMBERS = 20_000
"""PyTorch writes one member for each tensor and a handful more; MobileViT-S has 700 tensors."""

MAXIMUM_STRUCTURE_BYTES = 16 * 2**20
"""Bound of the pickle beside the tensors; with S and its optimizer it takes under 1 MB."""

_ZIP_START = b"PK\x03\x04"
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ENCRYPTED = 0x1
_BYTE_ORDERS = {b"little": "<", b"big": ">"}
# Where training programs keep the weights among the rest of their state.
_WEIGHTS_KEYS = ("model_state_dict", "state_dict", "model")
_DATA_PARALLEL_PREFIX = "module."


@contextlib.contextmanager
def open_torch_archive(path: Path) -> Iterator[dict[str, Tensor]]:
    """Yields the tensors of a state dictionary by name; they can be read inside the block.

    The dictionary may lie under "model_state_dict", "state_dict" or "model".

    Args:
        path: A file that `torch.save` wrote.

    Raises:
        ValueError: If the file is damaged, of another kind, compressed, or holds more than tensors
            and plain containers.
    """
    _check_start(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield _tensors(archive, path.stat().st_size)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"A PyTorch file must be whole. Received: a truncated or damaged one ({error})."
        ) from error


def _check_start(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(len(_LEGACY_START))
    if start == _LEGACY_START:
        raise ValueError(
            "A PyTorch file must be in the zip format that PyTorch writes since 1.6. Received: one "
            "in the old format; open and save it again with PyTorch."
        )
    if not start.startswith(_ZIP_START):
        raise ValueError(
            "A PyTorch file must begin as a zip archive. "
            f"Received: one that begins with the bytes {start[:4].hex(' ') or 'of an empty file'}."
        )


def _check_members(members: list[zipfile.ZipInfo], file_size: int) -> None:
    """Refuses what unpacks to more than the file itself holds."""
    if len(members) > MAXIMUM_MEMBERS:
        raise ValueError(
            f"A PyTorch file must have at most {MAXIMUM_MEMBERS} members. Received: {len(members)}."
        )
    if len({member.filename for member in members}) != len(members):
        raise ValueError("A PyTorch file's members must have different names.")
    packed = [
        member
        for member in members
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ENCRYPTED
    ]
    if packed:
        worst = max(packed, key=lambda member: member.file_size)
        raise ValueError(
            "A PyTorch file's members must be stored as they are, neither compressed nor "
            f"encrypted. Received: {len(packed)} that are not, such as {worst.filename}, "
            f"{worst.compress_size} bytes that claim to be {worst.file_size}."
        )
    total = sum(max(member.file_size, member.compress_size) for member in members)
    if total > file_size:
        raise ValueError(
            "A PyTorch file's members must fit into the file. "
            f"Received: {total} bytes in a file of {file_size}."
        )


def _tensors(archive: zipfile.ZipFile, file_size: int) -> dict[str, Tensor]:
    members = archive.infolist()
    _check_members(members, file_size)
    sizes = {member.filename: member.file_size for member in members}
    structures = [name for name in sizes if name.rpartition("/")[2] == "data.pkl"]
    if len(structures) != 1:
        raise ValueError(
            f"A PyTorch file must have one member named data.pkl. Received: {len(structures)}."
        )
    structure = structures[0]
    if sizes[structure] > MAXIMUM_STRUCTURE_BYTES:
        raise ValueError(
            f"data.pkl must have at most {MAXIMUM_STRUCTURE_BYTES} bytes. "
            f"Received: {sizes[structure]}."
        )
    folder = structure.removesuffix("data.pkl")
    byte_order = "<"
    if f"{folder}byteorder" in sizes:
        name = archive.read(f"{folder}byteorder")
        if name not in _BYTE_ORDERS:
            raise ValueError(f"The byte order must be little or big. Received: {name[:20]!r}.")
        byte_order = _BYTE_ORDERS[name]
    tensors = {}
    for name, stored in _weights(parse(archive.read(structure))).items():
        member = f"{folder}data/{stored.storage.key}"
        _check_tensor(name, stored, sizes.get(member))

        def read(stored: StoredTensor = stored, member: str = member) -> np.ndarray:
            return read_tensor(stored, archive.read(member), byte_order)

        tensors[name] = Tensor(stored.shape, read)
    return tensors


def _weights(content: Any) -> dict[str, StoredTensor]:
    """Finds the state dictionary in what was saved."""
    for key in _WEIGHTS_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise ValueError(
            "A PyTorch file must hold a state dictionary, alone or under one of "
            f"{_WEIGHTS_KEYS}. Received: {type(content).__name__}."
        )
    others = [
        repr(name)
        for name, value in content.items()
        if not isinstance(name, str) or not isinstance(value, StoredTensor)
    ]
    if others:
        raise ValueError(
            "A state dictionary must hold named tensors only. "
            f"Received others: {', '.join(others[:5])}."
        )
    if all(name.startswith(_DATA_PARALLEL_PREFIX) for name in content):
        return {name.removeprefix(_DATA_PARALLEL_PREFIX): value for name, value in content.items()}
    return content


def _check_tensor(name: str, tensor: StoredTensor, stored_bytes: int | None) -> None:
    """Refuses a tensor that claims more than its storage has."""
    storage = tensor.storage
    if stored_bytes is None:
        raise ValueError(f"{name} must have a storage in the file. Received: none.")
    claimed = storage.length * storage.item_size
    if claimed != stored_bytes:
        raise ValueError(
            f"{name} must be as large as its storage. "
            f"Received: {claimed} bytes claimed, {stored_bytes} stored."
        )
    if 0 in tensor.shape:
        return
    last = tensor.offset + sum(
        (side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    # Without the second comparison a stride of 0 would make a large tensor of one number.
    if last >= storage.length or math.prod(tensor.shape) > storage.length:
        raise ValueError(
            f"{name} must lie inside its storage. Received: shape {list(tensor.shape)}, strides "
            f"{list(tensor.strides)} and offset {tensor.offset} of {storage.length} numbers."
        )
