"""Images that cannot be used: counted and named, or the reason to stop."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from mobilevit_keras.data.source import Source


@dataclasses.dataclass
class SkippedImages:
    """The images that, or whose targets, could not be read, or the refusal of the first one.

    Attributes:
        strict: Whether an unreadable image is an error.
        limit: How many names are kept.
        failure: What was wrong when the reading was stopped.
    """

    strict: bool = False
    limit: int = 10
    failure: ValueError | None = None
    _seen: set[str] = dataclasses.field(default_factory=set, repr=False)
    _named: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        """Number of distinct images skipped so far."""
        return len(self._seen)

    @property
    def names(self) -> tuple[str, ...]:
        """The first names, in the order in which they were met."""
        return tuple(self._named)

    def add(self, record: Mapping[str, Any], source: Source) -> None:
        """Counts an image once, however often it is met.

        Args:
            record: What `Source.why_unreadable` takes.
            source: Where it is from; it knows more about it.

        Raises:
            ValueError: If `strict`.
        """
        if self.strict:
            self.stop(f"Every image must be readable. Received: {described(record, source)}.")
        name = name_of(record)
        if name not in self._seen:
            self._seen.add(name)
            if len(self._named) < self.limit:
                self._named[name] = described(record, source)

    def stop(self, message: str) -> None:
        """Raises a ValueError; the first one is remembered for `clear_errors`."""
        failure = ValueError(message)
        # Stages that read ahead go on, and may meet another image before they end.
        self.failure = self.failure or failure
        raise failure

    def __str__(self) -> str:
        if not self._seen:
            return "no unreadable images"
        more = ", …" if self.count > len(self._named) else ""
        return f"{self.count} unreadable image(s) skipped: {', '.join(self._named.values())}{more}"


def none_readable(source: Source, split: str, skipped: SkippedImages) -> ValueError:
    """The error of a split without an image that can be used; it says what the first ones lack."""
    first = f"; {skipped}" if skipped.count else ""
    return ValueError(f"{source}: no image of the split {split!r} can be read{first}.")


def strings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record, or of several, `Source.why_unreadable` takes."""
    return {key: record[key] for key in ("name", "image", "mask") if key in record}


def name_of(record: Mapping[str, Any]) -> str:
    """A record's name as text."""
    return record["name"].decode(errors="replace")


def described(record: Mapping[str, Any], source: Source) -> str:
    """A record's name, and in brackets what its source says of it."""
    name, why = name_of(record), source.why_unreadable(record)
    return f"{name} ({why})" if why else name


@contextlib.contextmanager
def clear_errors(source: Source, skipped: SkippedImages) -> Iterator[None]:
    """Turns TensorFlow's errors about a source's data into a ValueError that names a file.

    TensorFlow wraps what goes wrong inside of a dataset into errors of its own, with the traceback
    in their text. Code that iterates (`fit` and `evaluate` included) goes inside of this block.

    Args:
        source: The source that the dataset reads.
        skipped: What the dataset was given to note unreadable images.

    Raises:
        ValueError: In place of a `tf.errors.OpError` that the data caused; others pass through.
    """
    skipped.failure = None
    try:
        yield
    except tf.errors.OpError as error:
        message = str(skipped.failure) if skipped.failure else source.diagnose(error)
        if message is None:
            raise
        raise ValueError(message) from error
