"""Writes what `torch.save` writes, opcode by opcode, so that tests need no PyTorch."""

import struct
import zipfile
from pathlib import Path

import numpy as np

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def integers(values) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(key: str, value: np.ndarray, length: int | None = None, strides=None) -> bytes:
    """The opcodes of one tensor; `length` and `strides` may lie."""
    storage = f"ctorch\n{STORAGES[value.dtype.name]}\n".encode()
    if strides is None:
        strides = [side // value.itemsize for side in value.strides]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (b"(" + text("storage") + storage + text(key) + text("cpu"))
        + (integer(value.size if length is None else length) + b"tQ")
        + (integer(0) + integers(value.shape) + integers(strides))
        + (b"\x89" + ORDERED_DICT + b"tR")
    )


def state_dict(tensors: dict[str, np.ndarray]) -> bytes:
    """The opcodes of an ordered dictionary with PyTorch's note of versions."""
    items = b"".join(
        text(name) + tensor(str(index), value)
        for index, (name, value) in enumerate(tensors.items())
    )
    note = b"}" + text("_metadata") + ORDERED_DICT + b"s"
    return ORDERED_DICT + b"(" + items + b"u" + note + b"b"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def write(
    path: Path,
    tensors: dict[str, np.ndarray],
    body: bytes | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Writes an archive of `tensors`, whose pickle is `body` or that of a state dictionary."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(body or state_dict(tensors)))
        archive.writestr("archive/byteorder", "little")
        for index, value in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{index}", np.ascontiguousarray(value).tobytes())
        archive.writestr("archive/version", "3\n")
    return path
