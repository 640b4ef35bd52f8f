"""Where images come from: one file for each kind of source."""

import importlib

from mobilevit_keras.data.source import Source
from mobilevit_keras.source_kinds import FORMS, KINDS, kind_of


def open_source(specification: str, *, shuffle_buffer: int | None = None) -> Source:
    """Opens the source that a string names; `source_kinds.KINDS` lists what it may be.

    Args:
        specification: Such as `"digits"` or `"folder:PATH"`.
        shuffle_buffer: Records in the shuffle buffer of a source that has one, 4,096 by default;
            the others shuffle all of their images.

    Raises:
        ValueError: If the string names no source, the source holds nothing to train on, or it has
            no shuffle buffer to set.
        FileNotFoundError: If a folder or file does not exist.
    """
    kind = kind_of(specification)
    argument = specification.partition(":")[2]
    if kind is None or (kind.takes_argument and not argument):
        raise ValueError(f"A data source must be one of {FORMS}. Received: {specification!r}.")
    options = {}
    if shuffle_buffer is not None:
        if not kind.has_buffer or shuffle_buffer < 1:
            buffered = ", ".join(each.form for each in KINDS if each.has_buffer)
            raise ValueError(
                f"`shuffle_buffer` must be positive and goes with {buffered}. "
                f"Received: {shuffle_buffer} with {specification!r}."
            )
        options = {"shuffle_buffer": shuffle_buffer}
    module, function = kind.opener
    opener = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return opener(argument, **options) if kind.takes_argument else opener(**options)
