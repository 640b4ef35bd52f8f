"""The train command's tables and pictures: what a training would do, before it is begun."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilevit_keras import commands
from mobilevit_keras.data import Schedule, open_source
from mobilevit_keras.models import statistics
from train.__main__ import main


def train(*arguments) -> int:
    return commands.run(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two classes of five plain images each."""
    folder = tmp_path_factory.mktemp("photos")
    for name, colour in (("blue", (20, 40, 230)), ("red", (230, 40, 20))):
        (folder / name).mkdir()
        for i in range(5):
            Image.new("RGB", (48, 40), colour).save(folder / name / f"{i}.png")
    return folder


class TestSchedule:
    def test_the_papers_table(self, capsys):
        arguments = ["--recipe", "mobilevit_imagenet", "--batch-size", "128", "--images", "1281167"]
        assert train("schedule", *arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        rows = [line.split()[:2] for line in lines[2:7]]
        assert rows == [
            ["160", "327"], ["192", "227"], ["256", "128"], ["288", "101"], ["320", "81"],
        ]  # fmt: skip
        assert len(lines) == 8

    def test_steps_of_an_epoch(self, capsys):
        arguments = ["--sizes", "32", "64", "--base-size", "64", "--batch-size", "8"]
        arguments += ["--images", "200", "--seed", "3", "--epoch", "2", "--replicas", "2"]
        assert train("schedule", *arguments, "--steps", "4") == 0
        lines = capsys.readouterr().out.splitlines()
        expected = Schedule(sizes=(32, 64), base_size=64, batch_size=8, seed=3, num_shards=2).epoch(
            2, 200
        )
        assert lines[-5].split() == ["step", "height", "width", "batch"]
        for step, line in enumerate(lines[-4:]):
            row = (step, expected.heights[step], expected.widths[step], expected.batch_sizes[step])
            assert tuple(map(int, line.split())) == row

    def test_images_of_the_data(self, photos, capsys):
        assert train("schedule", "--data", f"folder:{photos}", "--sampler", "fixed") == 0
        count = open_source(f"folder:{photos}").num_examples("train")
        assert f"fixed: epoch 0 of {count} images in 1 steps" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ([], "`--images` or `--data` must be given"),
            (["--images", "0"], "Received: 0"),
            (["--images", "9", "--steps", "-1"], "Received: 0 and -1"),
            (["--images", "9", "--batch-size", "9", "--replicas", "2"], "num_shards=2"),
        ],
    )
    def test_mistakes(self, flags, message, capsys):
        assert train("schedule", *flags) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


class TestPreview:
    def test_a_row_for_each_batch(self, photos, tmp_path, capsys):
        picture = tmp_path / "sheet.png"
        arguments = ["--data", f"folder:{photos}", "--output", picture, "--sampler", "fixed"]
        arguments += ["--base-size", "32", "--batch-size", "4", "--images-per-batch", "3"]
        assert train("preview", *arguments) == 0
        assert str(picture) in capsys.readouterr().out
        pixels = np.asarray(Image.open(picture)).astype(int)
        # 8 training images are two batches; the three shown of each are 32 pixels wide.
        red = (pixels[..., 0] > 200) & (pixels[..., 2] < 60)
        blue = (pixels[..., 2] > 200) & (pixels[..., 0] < 60)
        assert (red | blue).sum() == 2 * 3 * 32 * 32

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--output", "{folder}/sheet.xyz"], "sheet.xyz"),
            (["--output", "{folder}/sheet.png", "--batches", "0"], "num_batches=0"),
            (["--output", "{folder}/sheet.png", "--epoch", "-1"], "Received: -1"),
        ],
    )
    def test_mistakes(self, flags, message, photos, tmp_path, capsys):
        flags = [flag.format(folder=tmp_path) for flag in flags]
        assert train("preview", "--data", f"folder:{photos}", *flags) == 2
        assert message in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_without_data(self, tmp_path, capsys):
        assert train("preview", "--output", tmp_path / "sheet.png") == 2
        assert "`--data` must be given" in capsys.readouterr().err


class TestDescribe:
    @pytest.fixture(autouse=True)
    def _one_model(self, monkeypatch):
        monkeypatch.setattr(
            statistics,
            "DESCRIBED_MODELS",
            {"mobilevit_xxs": statistics.DESCRIBED_MODELS["mobilevit_xxs"]},
        )

    def test_the_table(self, capsys):
        assert train("describe") == 0
        (row,) = capsys.readouterr().out.splitlines()[2:]
        assert row.split() == [
            "mobilevit_xxs", "1,272,024", "407M", "78M", "8.34M",
            "1,272,024", "407M", "78M", "256", "69.0",
        ]  # fmt: skip

    def test_json_at_another_size(self, capsys):
        assert train("describe", "--size", "128", "--json") == 0
        row = json.loads(capsys.readouterr().out)
        # Convolutions shrink with the pixels, attention with their square.
        assert row["attention_multiply_adds"] * 16 == 78_184_448
        assert row["multiply_adds"] < 407e6 / 4

    def test_too_small(self, capsys):
        assert train("describe", "--size", "16") == 2
        assert "(16, 16, 3)" in capsys.readouterr().err
