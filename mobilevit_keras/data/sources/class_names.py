"""A file of class names, one a line."""

from collections.abc import Sequence
from pathlib import Path

from mobilevit_keras.data.source import printable

CLASS_NAMES_FILE = "classes.txt"


def read_class_names(path: Path) -> Sequence[str]:
    """Reads a file of class names, that of class 0 in the first line.

    Raises:
        ValueError: If it is no text, a line is empty or two are equal.
        OSError: If it cannot be read.
    """
    try:
        names = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Class names must be text in UTF-8. Received: {printable(path)} ({error.reason})."
        ) from error
    names = [name.strip() for name in names]
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            raise ValueError(
                "Each line must name a class, another one than those above. "
                f"Received: {printable(path)}, line {number}: {name!r}."
            )
    return names
