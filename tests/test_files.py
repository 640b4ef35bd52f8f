import os
import stat
import subprocess
import sys

import pytest

from mobilevit_keras import files
from mobilevit_keras.files import MARK_FILE, atomic_directory, atomic_path, check_replaceable


def write(path, *names, **options):
    with atomic_directory(path, **options) as temporary:
        for name in names:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_text(name)


def listing(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


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
    for name in ("a", "deep/b"):
        write(path, name)
        assert listing(path) == [MARK_FILE, name]
    with pytest.raises(RuntimeError), atomic_directory(path) as temporary:
        (temporary / "c").touch()
        raise RuntimeError
    assert listing(path) == [MARK_FILE, "deep/b"]
    assert os.listdir(tmp_path) == ["folder"]


def test_what_a_person_added_is_never_deleted(tmp_path):
    site = tmp_path / "site"
    write(site, "index.html")
    (site / "CNAME").write_text("example.org")
    (site / ".git").mkdir()
    (site / ".git/config").touch()
    (site / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="also holds .git/config, CNAME, link") as error:
        write(site, "index.html")
    assert str(site) in str(error.value)
    strange = tmp_path / "photos"
    strange.mkdir()
    (strange / "model.json").write_text("{}")
    for keeps in (False, True):
        with pytest.raises(ValueError, match="also holds model.json"):
            write(strange, "index.html", keeps_others=keeps)
    assert (strange / "model.json").read_text() == "{}"
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="the file"):
        write(tmp_path / "file", "index.html")


def test_a_file_added_while_the_folder_is_written_is_kept(tmp_path):
    write(tmp_path / "site", "index.html")
    with pytest.raises(ValueError, match="also holds notes"):
        with atomic_directory(tmp_path / "site"):
            (tmp_path / "site/notes").touch()
    assert listing(tmp_path / "site") == [MARK_FILE, "index.html", "notes"]


def test_ours_is_replaced_and_the_rest_stays(tmp_path):
    site = tmp_path / "site"
    write(site, "index.html", "models/old/model.json", "both/ours")
    for name in ("CNAME", "both/theirs", ".git/config"):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text("a person's")
    write(site, "index.html", "models/new/model.json", keeps_others=True)
    others = [".git/config", MARK_FILE, "CNAME", "both/theirs"]
    assert listing(site) == [*others, "index.html", "models/new/model.json"]
    assert not (site / "models/old").exists()
    assert check_replaceable(site, keeps_others=True) == [".git/config", "CNAME", "both/theirs"]
    with pytest.raises(ValueError, match="not written here before is not replaced.*CNAME"):
        write(site, "CNAME", keeps_others=True)
    assert (site / "CNAME").read_text() == "a person's"


def test_a_folder_of_an_earlier_version(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a").touch()
    write(tmp_path / "old", "b", unmarked=lambda folder: ["a"])
    assert listing(tmp_path / "old") == [MARK_FILE, "b"]
    (tmp_path / "old" / MARK_FILE).write_text("[]")
    with pytest.raises(ValueError, match="also holds b"):
        write(tmp_path / "old", "c", unmarked=lambda folder: [])


def test_the_old_folder_comes_back_where_the_last_step_fails(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    write(path, "a")
    replace = os.replace

    def fail(source, target):
        if files._PARTIAL in str(source) and str(target) == str(path):
            raise OSError("no more")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="no more"):
        write(path, "b")
    assert listing(path) == [MARK_FILE, "a"]
    assert os.listdir(tmp_path) == ["folder"]


KILLED = """
import os, sys
from pathlib import Path
from mobilevit_keras import files
path = Path(sys.argv[1])
if sys.argv[2] == "file":
    with files.atomic_path(path):
        os._exit(1)
with files.atomic_directory(path) as temporary:
    (temporary / "half").touch()
    if sys.argv[2] == "folder":
        os._exit(1)
    replace = os.replace
    def once(source, target):
        replace(source, target)
        os._exit(1)
    files.os.replace = once
"""


def kill(path, kind):
    subprocess.run([sys.executable, "-c", KILLED, path, kind], check=False)


def test_what_a_killed_writer_left_goes_at_the_next_writing(tmp_path):
    kill(tmp_path / "a.txt", "file")
    kill(tmp_path / "a", "folder")
    (left, other) = sorted(tmp_path.iterdir())
    assert left.name.startswith(".partial-") and other.name.startswith(".partial-")
    with atomic_path(tmp_path / "b-a.txt"):
        # Of this running process, and of names that only end alike: both are left alone.
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("whole")
    write(tmp_path / "a", "b")
    assert sorted(os.listdir(tmp_path)) == ["a", "a.txt", "b-a.txt"]


def test_a_folder_that_a_killed_writer_moved_away_returns(tmp_path):
    write(tmp_path / "a", "whole")
    kill(tmp_path / "a", "swap")
    assert not (tmp_path / "a").exists()
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "a"):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a"]
    assert listing(tmp_path / "a") == [MARK_FILE, "whole"]


def test_a_version_whose_names_told_no_process(tmp_path):
    for name, age in ((".partial-abcd1234-a.txt", 90_000), (".partial-wxyz1234-a.txt", 10)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, (tmp_path / name).stat().st_mtime - age))
    with atomic_path(tmp_path / "a.txt"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".partial-wxyz1234-a.txt", "a.txt"]
