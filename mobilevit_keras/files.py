"""Files and folders that are either whole or absent, and a mark of which ones are ours to replace.

A temporary name begins with a dot and says which process writes: `.partial-HOST-PID-RANDOM-NAME`.
What a killed process has left is removed when the same name is written again. Whoever looks for
files in a folder must pass over names that begin with a dot.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

MARK_FILE = ".mobilevit_keras"
"""Lists, in a folder that `atomic_directory` wrote, every file that it wrote there."""

_PARTIAL, _OLD = ".partial-", ".old-"
_HOST = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:24] or "host"
# What another computer, or a version whose names tell no process, may still be writing.
_PATIENCE_SECONDS = 24 * 3600.0


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that replaces it once the block has ended well.

    A crash, a full disk or an exception leaves the old file as it was and no new one. The temporary
    name keeps the suffixes, because writers such as `keras.Model.save` choose the format by them.

    Args:
        path: The file to write.

    Raises:
        OSError: If the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = _temporary(_PARTIAL, path)
    # Made at once, so that a folder that cannot be written is found before the work is done.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(
    path: str | Path,
    *,
    unmarked: Callable[[Path], Collection[str]] | None = None,
    keeps_others: bool = False,
) -> Iterator[Path]:
    """Yields an empty temporary folder that replaces `path` once the block has ended well.

    Only what was written in this way is replaced; see `check_replaceable`. The old folder is there
    until the new one is complete, and stays where that fails.

    Args:
        path: The folder to write.
        unmarked: See `written_files`.
        keeps_others: Whether a person's own files in a folder of ours, such as `.git`, stay where
            they are. The new files then take their places one by one, those without a counterpart
            are removed last, and no file is ever half written. Without it such a folder is refused.

    Raises:
        ValueError: If `path` holds files that were not written in this way.
        OSError: If the folder cannot be made or written.
    """
    # Resolved: a link to a folder stays one, and "." has a name.
    path = Path(path).resolve()
    check_replaceable(path, unmarked=unmarked, keeps_others=keeps_others)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = _temporary(_PARTIAL, path)
    temporary.mkdir()
    try:
        yield temporary
        written = sorted(_files_of(temporary))
        _write_mark(temporary, written)
        # Once more: a person may have put something there meanwhile.
        others = check_replaceable(path, unmarked=unmarked, keeps_others=keeps_others)
        if others:
            _update(path, temporary, written, written_files(path, unmarked) or ())
        else:
            _swap(path, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(
    path: Path,
    *,
    unmarked: Callable[[Path], Collection[str]] | None = None,
    keeps_others: bool = False,
) -> list[str]:
    """Returns the files in `path` that are not ours; refuses a folder that must not be replaced.

    A folder may be replaced where it is absent, empty, or holds nothing but what its mark lists.

    Args:
        path: The folder, which need not exist.
        unmarked: See `written_files`.
        keeps_others: Whether other files beside ours are no reason to refuse.

    Raises:
        ValueError: If the folder holds other files; the message names some.
        NotADirectoryError: If `path` is a file.
    """
    if not path.exists():
        return []
    if not path.is_dir():
        raise NotADirectoryError(f"A folder is needed. Received: the file {path}.")
    found = _files_of(path)
    written = written_files(path, unmarked)
    others = sorted(found - set(written or ()) - {MARK_FILE})
    if not others or (keeps_others and written is not None):
        return others
    listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    raise ValueError(
        "Only a new or empty folder, or one that holds nothing but what was written there before, "
        f"is replaced. Received: {path}, which also holds {listed}."
    )


def written_files(
    path: Path, unmarked: Callable[[Path], Collection[str]] | None = None
) -> Collection[str] | None:
    """The names of the files in `path` that its mark lists, or None where it has no mark.

    Args:
        path: An existing folder.
        unmarked: Takes a folder without a mark and returns the names, relative and with slashes,
            that earlier versions wrote there; none where it is not one of theirs.
    """
    try:
        return tuple(json.loads((path / MARK_FILE).read_text("utf-8"))["wrote"])
    except FileNotFoundError:
        return (unmarked(path) or None) if unmarked is not None else None
    except (ValueError, KeyError, TypeError):
        # A mark that cannot be read vouches for nothing.
        return None


def _write_mark(folder: Path, names: Collection[str]) -> None:
    text = json.dumps({"wrote": sorted(names)}, ensure_ascii=False, indent=0)
    (folder / MARK_FILE).write_text(text + "\n", "utf-8")


def _files_of(folder: Path) -> set[str]:
    """Every file of a folder and of those in it, relative; links count as files."""
    names = set()
    for root, directories, files in os.walk(folder):
        links = [name for name in directories if os.path.islink(os.path.join(root, name))]
        names.update(Path(root, name).relative_to(folder).as_posix() for name in files + links)
    return names


def _swap(path: Path, temporary: Path) -> None:
    """Puts a folder in another's place; the other comes back where that fails."""
    if not path.exists():
        os.replace(temporary, path)
        return
    old = _temporary(_OLD, path)
    os.replace(path, old)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old)


def _update(path: Path, temporary: Path, written: list[str], before: Collection[str]) -> None:
    """Moves new files into a folder that holds others too, then removes what is written no more."""
    others = _files_of(path) - set(before) - {MARK_FILE}
    taken = sorted(others.intersection(written))
    if taken:
        raise ValueError(
            f"A file that was not written here before is not replaced. Received: {path / taken[0]}."
        )
    # All of them are ours, wherever this may be interrupted.
    _write_mark(path, {*written, *before})
    # The deepest first: what a page or an index at the top names is there before it.
    for name in sorted(written, key=lambda name: (-name.count("/"), name)):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary / name, path / name)
    for name in set(before).difference(written):
        (path / name).unlink(missing_ok=True)
        for parent in (path / name).parents:
            if parent == path or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()
    _write_mark(path, written)


def _temporary(kind: str, path: Path) -> Path:
    return path.with_name(f"{kind}{_HOST}-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def _remove_stale(path: Path) -> None:
    """Removes what killed processes left beside `path`; an old folder without its new one returns.

    A process that still runs is left alone, and so is another computer's for a day.
    """
    # HOST-PID-RANDOM, or the eight characters of versions whose names told no process.
    pattern = re.compile(
        rf"({_PARTIAL}|{_OLD})([^-]+-\d+-[^-]+|(?<={_PARTIAL})[^-]{{8}})-{re.escape(path.name)}"
    )
    with os.scandir(path.parent) as entries:
        found = [(entry.path, pattern.fullmatch(entry.name)) for entry in entries]
    for name, match in found:
        if match is None or not _is_stale(name, match[2]):
            continue
        with contextlib.suppress(OSError):
            if match[1] == _OLD and not path.exists():
                os.replace(name, path)
            elif os.path.isdir(name):
                shutil.rmtree(name)
            else:
                os.unlink(name)


def _is_stale(name: str, writer: str) -> bool:
    parts = writer.split("-")
    if len(parts) == 3 and parts[0] == _HOST:
        return not _is_running(int(parts[1]))
    with contextlib.suppress(FileNotFoundError):
        return time.time() - os.lstat(name).st_mtime > _PATIENCE_SECONDS
    return False


def _is_running(pid: int) -> bool:
    if os.name != "posix":
        # There is no harmless question to ask a process by its number.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
