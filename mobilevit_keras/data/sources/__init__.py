"""Where images come from: one file for each kind of source."""

import importlib

from mobilevit_keras.data.source import Source
from mobilevit_keras.source_kinds import FORMS, kind_of


def open_source(specification: str) -> Source:
    """Opens the source that a string names; `source_kinds.KINDS` lists what it may be.

    Args:
        specification: Such as `"digits"` or `"folder:PATH"`.

    Raises:
        ValueError: If the string names no source, or the source holds nothing to train on.
        FileNotFoundError: If a folder or file does not exist.
    """
    kind = kind_of(specification)
    argument = specification.partition(":")[2]
    if kind is None or (kind.takes_argument and not argument):
        raise ValueError(f"A data source must be one of {FORMS}. Received: {specification!r}.")
    module, function = kind.opener
    opener = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return opener(argument) if kind.takes_argument else opener()
