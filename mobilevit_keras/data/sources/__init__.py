"""The kinds of sources: one string names a source, one table says what it may be."""

import dataclasses
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobilevit_keras.data.source import Source


@dataclasses.dataclass(frozen=True)
class SourceKind:
    """A kind of source.

    Attributes:
        name: What stands before the colon.
        form: How it is written.
        help: What it is, for `--help`.
        opener: Module and function that open it, given what stands after the colon. A name, because
            TensorFlow takes seconds to import, which `--help` should not wait for.
    """

    name: str
    form: str
    help: str
    opener: tuple[str, str]

    @property
    def takes_argument(self) -> bool:
        return ":" in self.form

    def open(self, argument: str) -> "Source":
        """Opens the source; `argument` is what stands after the colon."""
        module, function = self.opener
        opener = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        return opener(argument) if self.takes_argument else opener()


KINDS = (
    SourceKind(
        "digits", "digits", "scikit-learn's 1,797 scanned digits", ("digits", "open_digits")
    ),
    SourceKind(
        "folder",
        "folder:PATH",
        "a folder of images for each class, or train and validation folders of such",
        ("image_folder", "ImageFolder"),
    ),
    SourceKind(
        "tfds",
        "tfds:NAME[:CONFIG]",
        "a labelled image set of tensorflow_datasets",
        ("tfds", "open_tfds"),
    ),
    SourceKind(
        "tfrecord",
        "tfrecord:FOLDER-OR-GLOB",
        "TFRecord shards of encoded images",
        ("tfrecord", "TFRecordShards"),
    ),
)

FORMS = ", ".join(repr(kind.form) for kind in KINDS)
DATA_HELP = "; ".join(f"{kind.form} ({kind.help})" for kind in KINDS)


def is_data_source(text: object) -> bool:
    """Whether something names a data source, and no file."""
    return _kind_of(text) is not None


def open_source(specification: str) -> "Source":
    """Opens the source that a string names; `KINDS` lists what it may be.

    Args:
        specification: Such as `"digits"` or `"folder:PATH"`.

    Raises:
        ValueError: If the string names no source, or the source holds nothing to train on.
        FileNotFoundError: If a folder or file does not exist.
    """
    kind = _kind_of(specification)
    argument = specification.partition(":")[2]
    if kind is None or (kind.takes_argument and not argument):
        raise ValueError(f"A data source must be one of {FORMS}. Received: {specification!r}.")
    return kind.open(argument)


def _kind_of(text: object) -> SourceKind | None:
    if not isinstance(text, str):
        return None
    name, colon, _ = text.partition(":")
    kinds = [kind for kind in KINDS if kind.name == name and kind.takes_argument == bool(colon)]
    return kinds[0] if kinds else None
