import json
import os
import subprocess
import sys

import pytest

from mobilevit_keras import commands
from mobilevit_keras.files import check_replaceable


def test_a_persons_mistake_is_one_line(capsys, tmp_path):
    (tmp_path / "letter").touch()
    for main, part in (
        (lambda arguments: check_replaceable(tmp_path), "which also holds letter."),
        (lambda arguments: open(tmp_path / "none"), "No such file"),
        (
            lambda arguments: (tmp_path / "letter").mkdir(),
            "A folder is needed where a file is. Rec",
        ),
        (lambda arguments: (tmp_path / "letter" / "x").mkdir(), "needed where a file is. Received"),
        (
            lambda arguments: open(tmp_path),
            f"file is needed where a folder is. Received: {tmp_path}",
        ),
    ):
        assert commands.run(main, []) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and part in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""


def test_a_fault_of_the_program_keeps_its_traceback():
    def main(arguments):
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        commands.run(main, [])


def test_a_value_error_of_a_library_is_a_fault():
    with pytest.raises(ValueError, match="Expecting value"):
        commands.run(lambda arguments: json.loads("no JSON"), [])


def test_the_traceback_can_be_asked_for(monkeypatch):
    def main(arguments):
        raise ValueError

    monkeypatch.setenv("MOBILEVIT_KERAS_TRACEBACK", "1")
    with pytest.raises(ValueError):
        commands.run(main, [])


def test_an_interruption(capsys):
    def main(arguments):
        raise KeyboardInterrupt

    assert commands.run(main, ["x"]) == 130


def test_status_and_arguments_pass():
    assert commands.run(lambda arguments: len(arguments), ["a", "b", "c"]) == 3


NOISY = """
import os, sys
from mobilevit_keras.commands import quiet_libraries
with quiet_libraries():
    os.write(2, b"of a library\\n")
    print("of Python", file=sys.stderr)
    if len(sys.argv) > 1:
        raise {"ValueError": ValueError, "RuntimeError": RuntimeError}[sys.argv[1]]("why")
os.write(2, b"afterwards\\n")
"""


@pytest.mark.parametrize("error", [None, "ValueError", "RuntimeError"])
def test_libraries_are_quiet_but_where_the_program_fails(error):
    arguments = [] if error is None else [error]
    process = subprocess.run(
        [sys.executable, "-c", NOISY, *arguments], capture_output=True, text=True
    )
    assert "of Python\n" in process.stderr
    assert ("of a library" in process.stderr) == (error == "RuntimeError")
    assert ("afterwards" in process.stderr) == (error is None)


def test_another_backend_is_refused_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "train", "describe"],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 2
    assert done.stderr.endswith("KERAS_BACKEND=tensorflow. Received: 'jax'.\n")
    assert len(done.stderr.splitlines()) == 1
