"""Printing what a model says of files, some of which it may not be able to read."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path


def print_answers(
    answers: Callable[[Callable[[Path, Exception], None]], Iterator[str]], num_files: int
) -> int:
    """Prints a line for each answer as it comes, and names each file that cannot be read.

    Args:
        answers: Takes what is to be told of unreadable files; yields the lines.
        num_files: How many files were asked for.

    Returns:
        The exit status of the command: 2 where a file could not be read.
    """
    bad = []

    def unreadable(path: Path, error: Exception) -> None:
        bad.append(path)
        print(f"error: {error}", file=sys.stderr)

    for line in answers(unreadable):
        print(line, flush=True)
    if bad:
        print(f"{len(bad)} of {num_files} files could not be read", file=sys.stderr)
    return 2 if bad else 0
