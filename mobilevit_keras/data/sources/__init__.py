"""Where images come from: one file for each kind of source."""

import importlib
from collections.abc import Sequence

from mobilevit_keras.data.source import Source
from mobilevit_keras.source_kinds import FORMS, KINDS, SourceKind, kind_of, kinds_with


def open_source(
    specification: str, *, fields: Sequence[str] | None = None, shuffle_buffer: int | None = None
) -> Source:
    """Opens the source that a string names; `source_kinds.KINDS` lists what it may be.

    Args:
        specification: Such as `"digits"` or `"folder:PATH"`.
        fields: The targets that its records must hold, such as `("mask",)`; by default what its
            kind gives first.
        shuffle_buffer: Records in the shuffle buffer of a source that has one, 4,096 by default;
            the others shuffle all of their images.

    Raises:
        ValueError: If the string names no source, the source has no such targets or holds nothing
            to train on, or it has no shuffle buffer to set.
        FileNotFoundError: If a folder or file does not exist.
    """
    kind = kind_of(specification)
    argument = specification.partition(":")[2]
    if kind is None or (kind.takes_argument and not argument):
        raise ValueError(f"A data source must be one of {FORMS}. Received: {specification!r}.")
    options = _field_options(kind, specification, fields)
    if shuffle_buffer is not None:
        if not kind.has_buffer or shuffle_buffer < 1:
            buffered = ", ".join(each.form for each in KINDS if each.has_buffer)
            raise ValueError(
                f"`shuffle_buffer` must be positive and goes with {buffered}. "
                f"Received: {shuffle_buffer} with {specification!r}."
            )
        options["shuffle_buffer"] = shuffle_buffer
    module, function = kind.opener
    opener = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return opener(argument, **options) if kind.takes_argument else opener(**options)


def _field_options(kind: SourceKind, specification: str, fields: Sequence[str] | None) -> dict:
    """The option that tells a kind which of its targets to give; none where it has no choice."""
    wanted = kind.fields[0] if fields is None else tuple(fields)
    if wanted not in kind.fields:
        able = ", ".join(repr(each.form) for each in kinds_with(wanted)) or "no kind of source"
        known = " or ".join(" and ".join(each) for each in kind.fields)
        raise ValueError(
            f"Images with {' and '.join(wanted)} come from {able}. "
            f"Received: {specification!r}, which has {known}."
        )
    return {"fields": wanted} if len(kind.fields) > 1 else {}
