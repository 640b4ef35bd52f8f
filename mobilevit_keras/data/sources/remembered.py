"""What was found by reading files, so that not every start reads them again."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from mobilevit_keras.files import atomic_path


class Remembered:
    """Numbers that files are known by, until the files change.

    Args:
        folder: The files' folder. What is known of it lies in Keras's own, not among the data.
    """

    def __init__(self, folder: Path):
        name = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=16).hexdigest()
        home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
        self._path = Path(home) / "mobilevit_keras" / "record_counts" / f"{name}.json"
        self._found: dict[str, list[int]] = {}
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, list[int]] = known if isinstance(known, dict) else {}

    def numbers(
        self, key: str, state: list[int], count: int, find: Callable[[], list[int]]
    ) -> list[int]:
        """Finds some numbers, or remembers what they were when the state was as it is now.

        Args:
            key: What they are called.
            state: Numbers that change when they may.
            count: How many numbers there are.
            find: Finds them.
        """
        known = self._known.get(key)
        length = len(state) + count
        if not isinstance(known, list) or known[: len(state)] != state or len(known) != length:
            known = [*state, *find()]
        self._found[key] = known
        return known[len(state) :]

    def save(self) -> None:
        """Remembers what was found, where that can be written."""
        known = self._known | self._found
        if known == self._known:
            return
        try:
            with atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps(known), encoding="utf-8")
        except OSError:
            return

    def forget(self) -> None:
        """Forgets the folder, of which something known turned out to be wrong."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def state_of(path: str) -> list[int]:
    """A file's size and times: of its content, and of whatever else the file system notes."""
    state = os.stat(path)
    # The first of the times can be set by whoever writes the file, and often is.
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
