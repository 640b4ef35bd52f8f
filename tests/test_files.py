import os
import stat

import pytest

from mobilevit_keras.files import atomic_directory, atomic_path


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    for text in ("old", "new"):
        with atomic_path(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert path.read_text() == text
    assert os.listdir(path.parent) == ["file.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="no space"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError("no space left on device")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("a", "b"):
        with atomic_directory(path) as temporary:
            (temporary / name).touch()
        assert os.listdir(path) == [name]
    with pytest.raises(RuntimeError), atomic_directory(path) as temporary:
        (temporary / "c").touch()
        raise RuntimeError
    assert os.listdir(path) == ["b"]
    assert os.listdir(tmp_path) == ["folder"]
