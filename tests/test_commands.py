import os
import subprocess
import sys

import pytest

from mobilevit_keras import commands


@pytest.mark.parametrize(
    "error, status", [(ValueError("no such variant"), 2), (FileNotFoundError("no such file"), 2)]
)
def test_a_persons_mistake_is_one_line(capsys, error, status):
    def main(arguments):
        raise error

    assert commands.run(main, []) == status
    captured = capsys.readouterr()
    assert captured.err == f"error: {error}\n"
    assert captured.out == ""


def test_a_fault_of_the_program_keeps_its_traceback():
    def main(arguments):
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        commands.run(main, [])


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
