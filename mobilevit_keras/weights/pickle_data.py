"""Reads the data in a pickle as data: a small interpreter that can call nothing.

A pickle is a program that builds objects by calling what it names. Python's own unpickler can be
told which names are allowed, but still calls. Here a name is only compared with a short list, and
what stands for a tensor becomes a description of a tensor.
"""

import dataclasses
import pickletools
from typing import Any

import numpy as np

# NumPy has no such type.
_BFLOAT16 = "bfloat16"


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers kept outside the pickle.

    Attributes:
        key: Name of the run.
        dtype: Type of its numbers: a NumPy type's name, or "bfloat16".
        length: How many they are.
    """

    key: str
    dtype: str
    length: int

    @property
    def item_size(self) -> int:
        """Bytes of one number."""
        return 2 if self.dtype == _BFLOAT16 else np.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A view of a storage: offset, shape and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _OrderedDict(dict):
    """Stands for `collections.OrderedDict`, whose attributes may be set and are forgotten."""

    __slots__ = ()


_MARK = object()
_ORDERED_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_STORAGES = {
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": _BFLOAT16,
    "torch DoubleStorage": "float64",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}


@dataclasses.dataclass(frozen=True)
class _Name:
    """An allowed global name; nothing is behind it."""

    name: str


def _refused(what: str) -> ValueError:
    return ValueError(
        f"A checkpoint must hold tensors and plain containers only. Received: {what}."
    )


class _Interpreter:
    """The pickle machine's stack and memo, without its power to import, call or set attributes."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        # genops only cuts the bytes into opcodes and their literal arguments.
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP" and self.stack[-1] is not _MARK:
                return self.stack[-1]
            self.step(opcode.name, argument)
        raise _refused("a pickle without an end")

    def marked(self) -> list[Any]:
        """Takes what lies above the last mark, and the mark."""
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(self.marked()))
        elif name == "LIST":
            stack.append(self.marked())
        elif name == "DICT":
            items = self.marked()
            stack.append({})
            self.set_items(items)
        elif name == "APPEND":
            self.append([stack.pop()])
        elif name == "APPENDS":
            self.append(self.marked())
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self.set_items([key, value])
        elif name == "SETITEMS":
            self.set_items(self.marked())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.marked()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "GLOBAL":
            self.push_name(argument)
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            self.push_name(f"{module} {attribute}")
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments, named = stack.pop(), stack.pop()
            stack.append(_described(named, arguments))
        elif name == "BUILD":
            # PyTorch hangs version notes on its ordered dictionaries; they are dropped.
            stack.pop()
            if not isinstance(stack[-1], _OrderedDict):
                raise _refused("an object with attributes")
        else:
            raise _refused(f"the pickle instruction {name}")

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _refused("an append to something else than a list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise _refused("a key of something else than a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float | bool | None):
                raise _refused("a dictionary key that is not a text or a number")
            self.stack[-1][key] = value

    def push_name(self, name: str) -> None:
        if name not in (_ORDERED_DICT, _TENSOR) and name not in _STORAGES:
            raise _refused(f"{name.replace(' ', '.')}, which was not loaded or run")
        self.stack.append(_Name(name))


_LITERALS = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    }
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _storage(description: Any) -> Storage:
    match description:
        case ("storage", _Name(name), str(key), str(), length) if name in _STORAGES and _is_count(
            length
        ):
            return Storage(key, _STORAGES[name], length)
    raise _refused("a reference to something else than a tensor's storage")


def _described(named: Any, arguments: Any) -> Any:
    """What the call of a name would have built."""
    match named, arguments:
        case _Name(name), () if name == _ORDERED_DICT:
            return _OrderedDict()
        case _Name(name), (Storage() as storage, offset, tuple(shape), tuple(strides), *_) if (
            name == _TENSOR
        ):
            if not all(map(_is_count, (offset, *shape, *strides))) or len(shape) != len(strides):
                raise _refused("a tensor of negative or unequal dimensions")
            return StoredTensor(storage, offset, shape, strides)
    raise _refused("a call of something else than a tensor's constructor")


def parse(data: bytes) -> Any:
    """Returns what a pickle describes: containers, numbers, texts and `StoredTensor`s.

    Args:
        data: The pickle.

    Raises:
        ValueError: If it is damaged, or describes anything else; the message names that.

    Example:
    >>> import pickle
    >>> parse(pickle.dumps({"epoch": 3}))
    {'epoch': 3}
    """
    try:
        return _Interpreter().run(data)
    except (IndexError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise ValueError(f"A checkpoint's pickle must be whole. Received: {error!r}.") from error


def read_tensor(tensor: StoredTensor, data: bytes, byte_order: str) -> np.ndarray:
    """Returns a tensor's values.

    Args:
        tensor: Its description.
        data: Its storage's bytes.
        byte_order: "<" or ">".
    """
    if tensor.storage.dtype == _BFLOAT16:
        # bfloat16 is the upper half of a float32.
        numbers = np.frombuffer(data, byte_order + "u2").astype("uint32") << 16
        numbers = numbers.view("float32")
    else:
        numbers = np.frombuffer(data, np.dtype(tensor.storage.dtype).newbyteorder(byte_order))
    size = numbers.itemsize
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :],
        tensor.shape,
        [size * stride for stride in tensor.strides],
        writeable=False,
    )
