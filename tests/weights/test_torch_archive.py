"""Hostile and damaged `.pt` files: nothing in them runs, and each is refused with a reason."""

import datetime
import pickle
import zipfile

import numpy as np
import pytest

from mobilevit_keras.weights.checkpoint_file import open_checkpoint
from mobilevit_keras.weights.pickle_data import parse
from tests.weights import torch_file
from tests.weights.torch_file import integer, pickled, text

TENSORS = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.array(4, "int64")}


def read(path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as (tensors, _):
        return {name: np.array(tensor.read()) for name, tensor in tensors.items()}


def dictionary(value: bytes) -> bytes:
    return b"}" + text("a") + value + b"s"


def test_tensors_are_read(tmp_path):
    path = torch_file.write(tmp_path / "weights.pt", TENSORS)
    for name, value in read(path).items():
        np.testing.assert_array_equal(value, TENSORS[name])


def test_a_transposed_tensor_is_read_by_its_strides(tmp_path):
    value = TENSORS["a"]
    body = dictionary(torch_file.tensor("0", value.T))
    path = torch_file.write(tmp_path / "weights.pt", {"a": value}, body)
    np.testing.assert_array_equal(read(path)["a"], value.T)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_of_every_protocol(protocol):
    shared = [1, -5, 2**40, 1.5, None, True, "ü"]
    content = {"a": shared, "b": (shared, {}, [], ()), 3: ("x", "y", "z"), "c": (1, 2), "d": (1,)}
    assert parse(pickle.dumps(content, protocol)) == content


class Evil:
    """Runs `print` when it is unpickled; the name of any function would do."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "evil, named",
    [
        (Evil(exec, "raise SystemExit"), "exec"),
        (Evil(print, "run"), "builtins.print|__builtin__.print"),
        (Evil(getattr, "x", "y"), "getattr"),
        (datetime.date(2022, 1, 1), "datetime.date"),
        (np.zeros(2), "numpy"),
        ({1, 2}, "set|EMPTY_SET"),
        (b"x", "bytes|BYTES|_codecs"),
    ],
    ids=["exec", "print", "getattr", "date", "array", "set", "bytes"],
)
def test_anything_but_tensors_and_containers_is_refused_and_not_run(
    tmp_path, capsys, evil, named, protocol
):
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": [1, evil]}, protocol))
    with pytest.raises(ValueError, match=f"tensors and plain containers only. .*({named})"):
        read(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "body",
    [
        # A call of a storage type, of a string, of the tensor constructor with other arguments.
        b"ctorch\nFloatStorage\n(tR",
        text("os.system") + b"(tR",
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + text("x") + b"tR",
        # Setting attributes of what is no ordered dictionary; a class by its extension code.
        b"]}b",
        b"ctorch._utils\n_rebuild_tensor_v2\n}b",
        b"\x82\x01",
        # An object by `__new__`, a storage of another kind, an append to a dictionary.
        b"ccollections\nOrderedDict\n)\x81",
        text("module") + b"Q",
        b"}K\x01a",
    ],
)
def test_forged_instructions_are_refused(body):
    with pytest.raises(ValueError, match="Received: "):
        parse(pickled(body))


@pytest.mark.parametrize("body", [b"", b"0", b"(", b"t", b"h\x05", b"s", b"X\xff\xff\xff\x7fabc"])
def test_broken_pickles_are_value_errors(body):
    with pytest.raises(ValueError):
        parse(pickled(body))


def test_memo_numbers_cost_nothing():
    assert parse(pickled(b"]r\xff\xff\xff\x7f")) == []


def forged(shape, length, strides=None) -> bytes:
    value = np.lib.stride_tricks.as_strided(np.zeros(1, "float32"), shape, [0] * len(shape))
    return dictionary(torch_file.tensor("0", value, length, strides))


@pytest.mark.parametrize(
    "body, message",
    [
        # Six numbers are stored: more claimed, more viewed, one seen over and over.
        (forged((2, 3), 7), "28 bytes claimed, 24 stored"),
        (forged((2, 4), 6, (4, 1)), "must lie inside its storage"),
        (forged((2, 3), 6, (30, 1)), "must lie inside its storage"),
        (forged((2**15, 2**15), 6, (0, 0)), "must lie inside its storage"),
        (forged((2, 3), 6, (-1, 1)), "negative or unequal"),
        (forged((2, 3), 6, (1,)), "negative or unequal"),
        (dictionary(torch_file.tensor("9", TENSORS["a"])), "must have a storage in the file"),
        (dictionary(torch_file.tensor("../0", TENSORS["a"])), "must have a storage in the file"),
        (dictionary(integer(3)), "named tensors only. Received others: 'a'"),
        (b"]", "must hold a state dictionary"),
        (b"}", "must hold a state dictionary"),
    ],
)
def test_tensors_that_lie_about_their_storage(tmp_path, body, message):
    path = torch_file.write(tmp_path / "weights.pt", {"a": TENSORS["a"]}, body)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_a_zip_bomb_is_refused_unopened(tmp_path):
    zeros = {"a": np.zeros(2**24, "float32")}
    path = torch_file.write(tmp_path / "bomb.pt", zeros, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    with pytest.raises(ValueError, match="neither compressed nor encrypted.*claim to be 67108864"):
        read(path)


def test_members_that_overlap_are_refused(tmp_path):
    path = tmp_path / "overlap.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(torch_file.state_dict(TENSORS)))
        archive.writestr("archive/data/0", bytes(2**16))
        # Every further name points at the same bytes.
        first = archive.getinfo("archive/data/0")
        for index in range(1, 50):
            again = zipfile.ZipInfo(f"archive/data/{index}")
            for name in ("file_size", "compress_size", "header_offset", "CRC"):
                setattr(again, name, getattr(first, name))
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    with pytest.raises(ValueError, match="members must fit into the file. Received: 32"):
        read(path)


def test_too_many_members_and_too_large_a_structure(tmp_path, monkeypatch):
    path = torch_file.write(tmp_path / "weights.pt", TENSORS)
    monkeypatch.setattr("mobilevit_keras.weights.torch_archive.MAXIMUM_MEMBERS", 3)
    with pytest.raises(ValueError, match="at most 3 members. Received: 5"):
        read(path)
    monkeypatch.undo()
    monkeypatch.setattr("mobilevit_keras.weights.torch_archive.MAXIMUM_STRUCTURE_BYTES", 9)
    with pytest.raises(ValueError, match="data.pkl must have at most 9 bytes"):
        read(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("part", [0, 3, 0.5, 0.98])
def test_truncated_files(tmp_path, suffix, part):
    import safetensors.numpy

    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch_file.write(path, TENSORS)
    else:
        safetensors.numpy.save_file(TENSORS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: part if isinstance(part, int) else int(part * len(whole))])
    with pytest.raises(ValueError, match="must be whole|must begin as a zip"):
        read(path)


def test_changed_bytes_are_noticed(tmp_path):
    path = torch_file.write(tmp_path / "weights.pt", TENSORS)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(TENSORS["a"].tobytes(), bytes(24)))
    with pytest.raises(ValueError, match="damaged one .*CRC"):
        read(path)


def test_the_old_format_and_other_files(tmp_path):
    old = tmp_path / "old.pt"
    # Where PyTorch 1.5 began: a pickle of the number 0x1950a86a20f9469cfc6c.
    old.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02M\xe9\x03.")
    with pytest.raises(ValueError, match="in the old format; open and save it again"):
        read(old)
    with pytest.raises(ValueError, match=r"must end in one of .pt, .pth, .bin, .safetensors"):
        (tmp_path / "weights.h5").write_bytes(b"x")
        read(tmp_path / "weights.h5")
    with pytest.raises(FileNotFoundError, match="must be an existing file"):
        read(tmp_path / "absent.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match="one member named data.pkl. Received: 0"):
        read(tmp_path / "other.pt")


def test_big_endian_archives(tmp_path):
    path = tmp_path / "big.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(torch_file.state_dict(TENSORS)))
        archive.writestr("archive/byteorder", "big")
        archive.writestr("archive/data/0", TENSORS["a"].astype(">f4").tobytes())
        archive.writestr("archive/data/1", TENSORS["b"].astype(">i8").tobytes())
    for name, value in read(path).items():
        np.testing.assert_array_equal(value, TENSORS[name])
