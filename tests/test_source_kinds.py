import importlib
import inspect
import subprocess
import sys

import pytest

from mobilevit_keras import source_kinds
from mobilevit_keras.data import open_source
from mobilevit_keras.source_kinds import BOXES, KINDS, LABEL, MASK, data_help, kind_of, kinds_with


def test_help_does_not_wait_for_tensorflow():
    """The commands import the module by itself, without the package's own imports."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1])['data_help'](('label',)); "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')))"
    )
    command = [sys.executable, "-c", code, source_kinds.__file__]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_openers_take_what_the_table_says(kind):
    module, function = kind.opener
    opener = getattr(importlib.import_module(f"mobilevit_keras.data.sources.{module}"), function)
    parameters = inspect.signature(opener).parameters
    assert ("fields" in parameters) == (len(kind.fields) > 1)
    assert ("shuffle_buffer" in parameters) == kind.has_buffer
    if "fields" in parameters:
        assert parameters["fields"].default == kind.fields[0]
    assert kind_of(kind.form) is kind


@pytest.mark.parametrize("fields", [LABEL, MASK, BOXES])
def test_help_lists_the_kinds_with_the_targets(fields):
    text = data_help(list(fields))
    for kind in KINDS:
        assert (f"{kind.form} ({kind.help})" in text) == (kind in kinds_with(fields))


def test_targets_that_a_kind_has_not(tmp_path):
    for name in ("digits", f"folder:{tmp_path}"):
        with pytest.raises(
            ValueError, match=f"^Images with mask come from .*{name}', which has label"
        ):
            open_source(name, fields=("mask",))
    with pytest.raises(ValueError, match="Images with names come from no kind of source"):
        open_source("digits", fields=["names"])
