"""Every command of the README, run in its order as it stands there, on two small classes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import convert.__main__
import train.__main__
from mobilevit_keras import MobileViTImageClassifier, commands
from tests.masks import write_scenes
from tests.objects import write_voc
from tests.photos import write_coloured_photos
from tests.tiny import randomize, tell_images_apart
from tests.weights import numpy_reference, torch_file

README = Path(__file__).parents[2] / "README.md"

# What this is part of or depends on, and what `test_tables` runs for long enough.
NOT_RUN = ("make demo", "make test", "python -m train describe")
SERVES = "python -m convert demo"

# What makes a command fit into seconds; flags given last count.
SMALL = {
    # From weights to which images look different: an untrained network fades from layer to layer.
    "python -m train classification --data": (
        "--variant mobilevit_xxs --weights preset.keras --sizes 32 64 --base-size 64 "
        "--batch-size 8 --epochs 4 --warmup-steps 0 --ema-decay 0.5"
    ),
    "python -m train classification --recipe finetune": "--smoke",
    "python -m train classification --recipe quantize": "--smoke --base-size 64",
    "python -m train segmentation --recipe finetune_segmentation": "--smoke --epochs 4 "
    "--ema-decay 0.5",
    "python -m convert tflite runs/streets/model.keras": "--size 64",
    "python -m train detection --recipe finetune_detection": "--smoke --epochs 4 --ema-decay 0.5 "
    "--sizes 64",
    "python -m convert tflite runs/cells/model.keras": "--size 64",
}


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A person's folder: photos, masks, boxes, a preset and a checkpoint that were downloaded."""
    write_coloured_photos(tmp_path / "photos", {"cat": 0, "dog": 2}, 10)
    write_scenes(tmp_path / "streets", 24)
    write_voc(tmp_path / "cells", 24)
    preset = MobileViTImageClassifier.from_variant("mobilevit_xxs")
    # What images do to it reaches the dense models' heads, and few epochs are enough.
    tell_images_apart(randomize(preset)).save(tmp_path / "preset.keras")
    torch_file.write(
        tmp_path / "mobilevit_s.pt", numpy_reference.random_checkpoint("mobilevit_xxs", 1000)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> int:
    """Runs `python -m train …` or `python -m convert …` in this process."""
    words = shlex.split(command.replace("mobilevit_s.cvnets_in1k", "preset.keras"))
    for start, flags in SMALL.items():
        if command.startswith(start):
            words += shlex.split(flags)
    if words[1].endswith(".py"):
        return subprocess.run([sys.executable, README.parent / words[1], *words[2:]]).returncode
    assert words[:2] == ["python", "-m"], command
    main = {"train": train.__main__.main, "convert": convert.__main__.main}[words[2]]
    return commands.run(main, words[3:])


@pytest.mark.slow
@pytest.mark.tfjs
@pytest.mark.timeout(900)
def test_commands(folder, monkeypatch):
    served = []
    monkeypatch.setattr("convert.demo_command.serve", lambda *arguments: served.append(arguments))
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) > 10
    for line in lines:
        if line not in NOT_RUN:
            assert run(line) == 0, line
    assert len(served) == sum(line.startswith(SERVES) for line in lines) == 1
    for path in (
        "runs/photos/model.tflite",
        "runs/photos/model.labels.txt",
        "runs/photos/tfjs/model.json",
        "runs/tuned/model.keras",
        "site/index.html",
        "runs/streets/model.tflite",
        "sheet.png",
        "masks/1.mask.png",
    ):
        assert (folder / path).is_file(), path


# What makes the scripts fit into seconds.
SMALL_PYTHON = {
    "mobilevit_xs": "mobilevit_xxs",
    "(160, 192, 224, 256), base_size=224, batch_size=32": "(32, 40), base_size=32, batch_size=8",
    "crop_size=224": "crop_size=32",
    "epochs=60": "epochs=2",
    "mobilevit_s.cvnets_in1k": "preset.keras",
}


@pytest.mark.slow
def test_python(folder):
    scripts = blocks("python")
    assert len(scripts) == 2
    for script in scripts:
        for words, small in SMALL_PYTHON.items():
            script = script.replace(words, small)
        exec(compile(script, "README.md", "exec"), {})
    assert len(list((folder / "runs" / "xs").glob("step-*.npz"))) == 2
    assert (folder / "own.keras").is_file() and (folder / "own.tflite").is_file()
