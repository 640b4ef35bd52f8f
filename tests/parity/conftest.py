"""Runs the original implementations once; needs `PARITY_PYTHON`, a Python that has PyTorch.

This group is apart from the others, because PyTorch and TensorFlow want different versions of what
they share. Without `PARITY_PYTHON` it is not collected.
"""

import os
import subprocess
from pathlib import Path

import pytest

PYTHON = os.environ.get("PARITY_PYTHON")
# What PyTorch runs cannot be imported here, not even in search of doctests.
collect_ignore = ["originals.py"]
collect_ignore_glob = [] if PYTHON else ["test_*.py"]


@pytest.fixture(scope="session")
def originals():
    """Runs `originals.py` with its arguments."""

    def run(*arguments) -> None:
        script = Path(__file__).with_name("originals.py")
        subprocess.run([PYTHON, str(script), *map(str, arguments)], check=True)

    return run


@pytest.fixture(scope="session")
def checkpoints(originals, tmp_path_factory) -> Path:
    """A folder of random checkpoints and their answers."""
    folder = tmp_path_factory.mktemp("originals")
    originals("make", folder)
    return folder
