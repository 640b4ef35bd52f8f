"""What the README's training command reaches with its default values on a small set."""

import csv

import pytest

from mobilevit_keras import commands
from tests.photos import write_coloured_photos
from train.__main__ import main


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> list[dict[str, str]]:
    """The log of a training from scratch on 300 images whose classes colour tells apart."""
    folder = tmp_path_factory.mktemp("defaults")
    (folder / "photos").mkdir()
    write_coloured_photos(folder / "photos", {"red": 0, "green": 1, "blue": 2}, 100, "{:03d}.jpg")
    arguments = ["classification", "--data", f"folder:{folder / 'photos'}"]
    arguments += ["--sizes", "32", "48", "--base-size", "32", "--batch-size", "16"]
    arguments += ["--epochs", "4", "--output", str(folder / "run"), "--verbose", "0"]
    assert commands.run(main, arguments) == 0
    with open(folder / "run" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_averaged_weights_have_learned(log):
    """An average that reaches back to the initial weights stays at a third."""
    assert float(log[-1]["val_top1"]) > 0.9
