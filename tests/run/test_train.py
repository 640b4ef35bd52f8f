"""The train command on real images, as a person runs it, and the mistakes a person makes."""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from mobilevit_keras import commands
from mobilevit_keras.data import Schedule, open_source
from mobilevit_keras.models import load_model
from tests.photos import write_coloured_photos
from train.__main__ import main
from train.config import CONFIGS, SIZES_AND_BATCHES, ClassificationConfig
from train.recipe_files import load_recipe, recipe_names


def train(*arguments) -> int:
    return commands.run(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two classes that colour tells apart, one file of them cut short."""
    folder = tmp_path_factory.mktemp("photos")
    write_coloured_photos(folder, {"red": 0, "blue": 2}, 12, "{:02d}.jpg")
    whole = (folder / "red" / "00.jpg").read_bytes()
    (folder / "red" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


SMALL = [
    "--sizes", "32", "40", "--base-size", "32", "--batch-size", "8", "--epochs", "2",
    "--ema-decay", "0.5", "--verbose", "2", "--checkpoint-every", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> tuple[Path, str]:
    """A finished run on a folder, and what the command printed."""
    output = tmp_path_factory.mktemp("runs") / "photos"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        arguments = ["--data", f"folder:{photos}", "--output", output, *SMALL]
        assert train("classification", *arguments) == 0
    return output, printed.getvalue()


def test_the_runs_folder(run, photos):
    output, printed = run
    assert "skipped" in printed and "broken.jpg" in printed
    model = load_model(output / "model.keras")
    assert model.class_names == ("blue", "red")
    assert (model.preprocessing.short_side, model.preprocessing.crop_size) == (36, 32)
    rows = list(csv.DictReader((output / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"loss", "top1", "val_loss", "val_top1", "learning_rate", "images_per_second"} <= set(
        rows[0]
    )
    assert Image.open(output / "curves.png").size[0] > 600
    assert list((output / "tensorboard" / "train").glob("events*"))
    held_out = open_source(f"folder:{photos}").num_examples("validation")
    assert 0 < len(list((output / "samples").glob("[!.]*"))) <= min(4, held_out)
    saved = yaml.safe_load((output / "config.yaml").read_text())
    assert ClassificationConfig(**saved).sizes == (32, 40)


def test_tensorboard_gets_every_step(run):
    """Against the schedule: its sizes, in its order. Rates are told where losses are read."""
    output, _ = run
    (events,) = (output / "tensorboard" / "steps").glob("events*")
    found: dict[str, dict[int, float]] = {}
    for event in tf.compat.v1.train.summary_iterator(str(events)):
        for value in event.summary.value:
            number = float(tf.make_ndarray(value.tensor))
            found.setdefault(value.tag, {})[event.step] = number
    config = ClassificationConfig(**yaml.safe_load((output / "config.yaml").read_text()))
    num_images = open_source(config.data).num_examples("train")
    schedule = Schedule(**{name: getattr(config, name) for name in SIZES_AND_BATCHES})
    epochs = [schedule.epoch(epoch, num_images) for epoch in range(2)]
    sizes = [float(side) for steps in epochs for side in steps.heights]
    batches = [float(size) for steps in epochs for size in steps.batch_sizes]
    assert found["step/size"] == dict(enumerate(sizes, 1)) and set(sizes) == {32.0, 40.0}
    assert found["step/batch"] == dict(enumerate(batches, 1))
    assert list(found["step/loss"]) == list(found["step/size"])
    ends = {len(epochs[0]), len(sizes)}
    ends |= {step for step in found["step/size"] if step % 16 == 0}
    for name in ("images_per_second", "learning_rate"):
        assert found[f"step/{name}"].keys() == ends and min(found[f"step/{name}"].values()) > 0


def test_evaluate_draws_the_confusion(run, photos, tmp_path):
    output, _ = run
    picture = tmp_path / "confusion.png"
    arguments = ["--model", output / "model.keras", "--data", f"folder:{photos}"]
    assert train("evaluate", *arguments, "--confusion", picture) == 0
    assert Image.open(picture).size[0] > 300


def test_evaluate_prints_one_json_line(run, photos, capsys):
    output, _ = run
    model = output / "model.keras"
    assert train("evaluate", "--model", model, "--data", f"folder:{photos}") == 0
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert list(result) == ["top1", "top5", "images", "milliseconds_per_image"]
    held_out = open_source(f"folder:{photos}").num_examples("validation")
    assert result["top5"] == 1.0 and held_out - 1 <= result["images"] <= held_out


def test_evaluate_at_several_sizes_prints_a_table(run, photos, capsys):
    output, _ = run
    arguments = ["--model", output / "model.keras", "--data", f"folder:{photos}"]
    assert train("evaluate", *arguments, "--sizes", "32", "48") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["size"] for line in lines[:2]] == [32, 48]
    assert lines[3].split() == ["size", "top1", "top5", "ms/image"]


def test_a_second_run_needs_a_word(run, photos, capsys):
    output, _ = run
    before = (output / "model.keras").read_bytes()
    arguments = ["--data", f"folder:{photos}", "--output", output, *SMALL]
    assert train("classification", *arguments) == 2
    assert "--resume goes on with it, --overwrite begins anew" in capsys.readouterr().err
    assert (output / "model.keras").read_bytes() == before


def test_resume_of_a_finished_run_trains_no_further(run, photos, capsys):
    output, _ = run
    before = load_model(output / "model.keras").get_weights()
    arguments = ["--data", f"folder:{photos}", "--output", output, *SMALL]
    assert train("classification", *arguments, "--resume") == 0
    assert len((output / "log.csv").read_text().splitlines()) == 3
    after = load_model(output / "model.keras").get_weights()
    assert all((x == y).all() for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_whole(name):
    """Every key is known, with and without the smoke values, and every recipe has those."""
    plain, smoke = load_recipe(name), load_recipe(name, smoke=True)
    assert plain != smoke
    config = CONFIGS[plain["task"]]
    config(**plain, weights="model.keras")
    config(**smoke, weights="model.keras")


def test_the_papers_recipe():
    config = ClassificationConfig(**load_recipe("mobilevit_imagenet"))
    assert (config.epochs, config.batch_size, config.base_size) == (300, 1024, 256)
    assert config.sizes == (160, 192, 256, 288, 320)
    assert (config.evaluation_short_side, config.evaluation_crop_size) == (288, 256)


def test_the_recipes_of_mobilevit_v2():
    config = ClassificationConfig(**load_recipe("mobilevitv2_imagenet"))
    assert (config.variant, config.sampler, config.base_size) == ("mobilevitv2_100", "fixed", 256)
    assert (config.augmentation, config.interpolation) == ("advanced", "bicubic")
    assert dataclasses.asdict(config.preprocessing()) == {
        "short_side": 288,
        "crop_size": 256,
        "interpolation": "bicubic",
        "resize": "crop",
    }
    recipe = config.recipe()
    assert (recipe.clip_norm, recipe.decay_norms_and_biases) == (10.0, False)
    assert (recipe.peak_learning_rate, recipe.final_learning_rate) == (0.0075, 0.00075)
    multi_scale = ClassificationConfig(**load_recipe("mobilevitv2_multi_scale"))
    assert multi_scale.sampler == "multi_scale_variable_batch"
    others = ("sampler", "sizes")
    assert {k: v for k, v in vars(multi_scale).items() if k not in others} == {
        k: v for k, v in vars(config).items() if k not in others
    }


MISTAKES = {
    "unknown variant": (["--variant", "mobilevit_m"], "mobilevit_m"),
    "unknown source": (["--data", "imagenet"], "'imagenet'"),
    "no folder": (["--data", "folder:/no/such/folder"], "/no/such/folder"),
    "empty folder": (["--data", "folder:{empty}"], "{empty}"),
    "one class": (["--data", "folder:{one}"], "{one}"),
    "no recipe": (["--recipe", "imagenet"], "'imagenet'"),
    "unknown key": (["--recipe", "{recipe}"], "'epoch' in {recipe}; did you mean 'epochs'?"),
    "wrong type": (["--recipe", "{types}"], "`epochs` must be of type int. Received: 'ten'"),
    "small size": (["--sizes", "16", "32"], "16"),
    "epochs": (["--epochs", "0"], "`epochs` must be at least 1. Received: 0"),
    "precision": (["--precision", "int8"], "Received: 'int8'"),
    "unwritable": (["--output", "{file}/run"], "{file}"),
    "label smoothing": (["--label-smoothing", "-1"], "`label_smoothing` must be from 0 up to"),
    "freeze": (["--freeze", "backbone"], "Received: freeze='backbone', no `weights`"),
    "average": (["--ema-decay", "1"], "`ema_decay` must be from 0 up to, not including, 1"),
    "rate": (["--peak-learning-rate", "0"], "`peak_learning_rate` must be positive"),
    "clip": (["--clip-norm", "0"], "`clip_norm` must be positive"),
    "dropout": (["--dropout", "1"], "`dropout` must be from 0 up to"),
    "evaluation": (["--evaluation-short-side", "20"], "20"),
    "half int8": (
        ["--quantize", "int8", "--weights", "model.keras", "--precision", "mixed_float16"],
        "`quantize` trains in float32. Received: quantize='int8', precision='mixed_float16'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, tmp_path, photos, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "cat").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "one" / "cat" / "1.png")
    (tmp_path / "recipe.yaml").write_text("epoch: 3\n")
    (tmp_path / "types.yaml").write_text("epochs: ten\n")
    (tmp_path / "file").touch()
    places = {
        "empty": tmp_path / "empty",
        "one": tmp_path / "one",
        "recipe": tmp_path / "recipe.yaml",
        "types": tmp_path / "types.yaml",
        "file": tmp_path / "file",
    }
    flags, message = MISTAKES[name]
    arguments = ["--data", f"folder:{photos}", "--output", str(tmp_path / "run")]
    arguments += [flag.format(**places) for flag in flags]
    assert train("classification", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message.format(**places) in error
    assert not (tmp_path / "run").exists()


def test_strict_stops_at_an_unreadable_image(photos, tmp_path, capsys):
    arguments = ["--data", f"folder:{photos}", "--output", tmp_path / "run", "--strict"]
    assert train("classification", *arguments, *SMALL) == 2
    assert "broken.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["missing.keras", "text.keras", "text.tflite", "text.h5"])
def test_evaluate_refuses_what_is_no_model(tmp_path, photos, capsys, model):
    for name in ("text.keras", "text.tflite", "text.h5"):
        (tmp_path / name).write_text("no model")
    status = train("evaluate", "--model", tmp_path / model, "--data", f"folder:{photos}")
    assert status == 2
    assert model in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(run, photos, tmp_path):
    """SIGKILL between two checkpoints; what comes after is what would have come."""
    whole, _ = run
    output = tmp_path / "run"
    arguments = ["--data", f"folder:{photos}", "--output", str(output), *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-m", "train", "classification", *arguments, "--checkpoint-every", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(output.glob("checkpoints/step-*.npz")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert train("classification", "--output", output, "--resume") == 0
    a, b = (load_model(folder / "model.keras").get_weights() for folder in (whole, output))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))


def test_a_resumed_run_keeps_its_configuration(run, capsys):
    output, _ = run
    assert train("classification", "--output", output, "--resume", "--seed", "5") == 2
    error = capsys.readouterr().err
    assert "config.yaml has seed=0. Received: seed=5." in error


@pytest.fixture
def half_way(run, photos, tmp_path) -> tuple[Path, Path]:
    """A run that stopped at the oldest checkpoint it kept, and its own copy of the photos."""
    shutil.copytree(photos, tmp_path / "photos")
    output = shutil.copytree(run[0], tmp_path / "run")
    config = yaml.safe_load((output / "config.yaml").read_text())
    config["data"] = f"folder:{tmp_path / 'photos'}"
    (output / "config.yaml").write_text(yaml.safe_dump(config))
    for path in sorted(output.glob("checkpoints/step-*.npz"))[1:]:
        path.unlink()
    return output, tmp_path / "photos"


@pytest.mark.slow
def test_a_resumed_run_tells_of_images_that_are_gone(half_way, capsys):
    output, photos = half_way
    before = open_source(f"folder:{photos}").num_examples("train")
    for name in ("01", "02", "03", "04", "05"):
        (photos / "blue" / f"{name}.jpg").unlink()
    now = open_source(f"folder:{photos}").num_examples("train")
    assert now < before
    assert train("classification", "--output", output, "--resume") == 0
    assert f"has {now} training images, and had {before} when step-" in capsys.readouterr().out


def test_a_resumed_run_keeps_its_classes(half_way, capsys):
    output, photos = half_way
    (photos / "blue").rename(photos / "violet")
    assert train("classification", "--output", output, "--resume") == 2
    error = capsys.readouterr().err
    assert "must keep its classes, blue, red. Received: " in error
    assert "with red, violet." in error


def test_weights_of_another_variant(run, photos, tmp_path, capsys):
    trained, _ = run
    arguments = ["--data", f"folder:{photos}", "--output", tmp_path / "run"]
    arguments += ["--weights", trained / "model.keras", "--variant", "mobilevit_s"]
    assert train("classification", *arguments) == 2
    assert "has 'mobilevit_xxs'. Received: variant='mobilevit_s'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_fine_tuning_starts_from_a_trained_model(run, photos, tmp_path, capsys):
    trained, _ = run
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "blue").rename(tmp_path / "photos" / "azure")
    shutil.copytree(photos / "red", tmp_path / "photos" / "scarlet")
    arguments = ["--data", f"folder:{tmp_path / 'photos'}", "--output", tmp_path / "run"]
    arguments += ["--weights", trained / "model.keras", "--freeze", "backbone"]
    assert train("classification", "--recipe", "finetune", "--smoke", *arguments) == 0
    tuned = load_model(tmp_path / "run" / "model.keras")
    assert tuned.class_names == ("azure", "red", "scarlet")
    before = load_model(trained / "model.keras").backbone.get_weights()
    for a, b in zip(before, tuned.backbone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
