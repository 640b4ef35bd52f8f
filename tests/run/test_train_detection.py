"""The commands on boxes, as a person runs them, and the mistakes a person makes."""

import contextlib
import csv
import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from mobilevit_keras import MobileViTObjectDetector, commands
from mobilevit_keras.models import load_model
from mobilevit_keras.palette import class_colours
from mobilevit_keras.source_kinds import BOXES_AND_IGNORED
from tests.objects import NAMES, ColouredObjects
from tests.run.stopping import check_stopped_is_whole
from tests.tiny import build_tiny, build_tiny_detector
from train import assembly
from train.__main__ import main
from train.config import DetectionConfig
from train.recipe_files import load_recipe, recipe_names

TRACES = []


def train(*arguments) -> int:
    return commands.run(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def objects():
    """`scenes` is a source in memory, and a new model a tiny one."""
    patch = pytest.MonkeyPatch()
    opened = []

    def open_scenes(data, **options):
        opened.append((data, options))
        return ColouredObjects()

    step = MobileViTObjectDetector.train_step

    def counted(self, data):
        TRACES.append(1)
        return step(self, data)

    patch.setattr(assembly, "open_source", open_scenes)
    patch.setattr("mobilevit_keras.data.open_source", open_scenes)
    patch.setattr(
        MobileViTObjectDetector,
        "from_variant",
        lambda variant, class_names, preprocessing, **options: tiny(
            class_names,
            preprocessing,
            **{name: value for name, value in options.items() if "scale" in name},
        ),
    )
    patch.setattr(MobileViTObjectDetector, "train_step", counted)
    yield opened
    patch.undo()


def tiny(class_names, preprocessing=None, **scales):
    model = build_tiny_detector(len(class_names), class_names, num_layers=(1, 1, 1), **scales)
    return (
        model
        if preprocessing is None
        else model.with_classes(class_names, preprocessing=preprocessing)
    )


SMALL = [
    "--data", "scenes", "--sizes", "32", "48", "64", "--base-size", "32", "--batch-size", "8",
    "--epochs", "2", "--ema-decay", "0.5", "--verbose", "2", "--checkpoint-every", "2",
    "--evaluation-size", "48", "64", "--warmup-steps", "0", "--clip-norm", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, objects):
    """A finished run, and what the command printed."""
    output = tmp_path_factory.mktemp("runs") / "objects"
    printed = io.StringIO()
    TRACES.clear()
    with contextlib.redirect_stdout(printed):
        assert train("detection", *SMALL, "--output", output) == 0
    return output, printed.getvalue()


def test_the_runs_folder(run, objects):
    output, printed = run
    # One trace for all sizes.
    assert TRACES == [1]
    assert "2 classes (red, blue), 24 training and 6 validation images" in printed
    model = load_model(output / "model.keras")
    assert (type(model), model.class_names) == (MobileViTObjectDetector, NAMES)
    assert (model.preprocessing.resize, model.preprocessing.crop_size) == ("stretch", (48, 64))
    rows = list(csv.DictReader((output / "log.csv").open()))
    assert {"loss", "val_loss", "val_map", "val_map50", "val_map75"} <= set(rows[0])
    assert all(np.isfinite(float(row[name])) for row in rows for name in ("loss", "val_loss"))
    assert load_model(output / "best.keras").class_names == NAMES
    assert Image.open(output / "curves.png").size[0] > 1200
    assert len(list((output / "samples").glob("*.png"))) == 6
    config = DetectionConfig(**yaml.safe_load((output / "config.yaml").read_text()))
    assert (config.task, config.sizes, config.crop) == ("detection", (32, 48, 64), "sample")
    assert ("scenes", {"fields": BOXES_AND_IGNORED, "shuffle_buffer": None}) in objects


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same_to_the_bit(run, tmp_path, monkeypatch):
    output, _ = run
    check_stopped_is_whole(train, "detection", SMALL, output, tmp_path / "run", monkeypatch)


class TestEvaluate:
    def test_the_figures_are_those_of_the_last_epoch(self, run, objects, capsys):
        output, _ = run
        arguments = ["--model", output / "model.keras", "--data", "scenes"]
        assert train("evaluate", *arguments) == 0
        assert objects[-1] == ("scenes", {"fields": BOXES_AND_IGNORED})
        line, *table = capsys.readouterr().out.splitlines()
        result = json.loads(line)
        assert list(result) == [
            "map", "map50", "map75", "map_by_size", "map_by_class", "map50_by_class", "images",
            "milliseconds_per_image",
        ]  # fmt: skip
        logged = list(csv.DictReader((output / "log.csv").open()))[-1]
        for name in ("map", "map50", "map75"):
            assert result[name] == pytest.approx(float(logged[f"val_{name}"]), abs=2e-6)
        assert result["images"] == 6 and list(result["map_by_class"]) == list(NAMES)
        assert ["map_by_class", "48x64"] in [row.split() for row in table]

    def test_with_mediapipes_suppression_and_pictures(self, run, tmp_path, capsys):
        output, _ = run
        arguments = ["--model", output / "model.keras", "--data", "scenes", "--sizes", "32", "64"]
        arguments += ["--curves", tmp_path / "curves.png", "--sheet", tmp_path / "sheet.png"]
        assert train("evaluate", *arguments, "--suppression-rules", "mediapipe") == 0
        lines = capsys.readouterr().out.splitlines()
        assert [json.loads(line)["size"] for line in lines[:2]] == [32, 64]
        assert lines[3].split() == ["size", "map", "map50", "map75", "ms/image"]
        assert Image.open(tmp_path / "curves.png").width > 600
        pixels = np.asarray(Image.open(tmp_path / "sheet.png")).reshape(-1, 3)
        # Frames of both classes, at least of the truth.
        for number in (1, 2):
            assert np.all(pixels == class_colours()[number], axis=1).sum() > 50

    @pytest.mark.parametrize(
        ("build", "rules", "message"),
        [
            (build_tiny, "mediapipe", "`--suppression-rules` are for detectors"),
            (build_tiny_detector, "soft", "`rules` must be one of ('paper', 'mediapipe')"),
        ],
    )
    def test_mistakes(self, build, rules, message, tmp_path, capsys):
        build(2, NAMES).save(tmp_path / "model.keras")
        arguments = ["--model", tmp_path / "model.keras", "--data", "scenes"]
        assert train("evaluate", *arguments, "--suppression-rules", rules) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("build", [build_tiny, build_tiny_detector])
@pytest.mark.slow
def test_a_backbone_that_has_learned(build, tmp_path):
    """A classifier's, and a detector's of other classes."""
    trained = build(5, tuple("abcde"), num_layers=(1, 1, 1))
    trained.save(tmp_path / "trained.keras")
    flags = ["--weights", tmp_path / "trained.keras", "--freeze", "backbone"]
    flags += ["--output", tmp_path / "run", "--epochs", "1", "--min-scale", "0.2"]
    assert train("detection", *SMALL, *flags) == 0
    tuned = load_model(tmp_path / "run" / "model.keras")
    assert type(tuned) is MobileViTObjectDetector and tuned.class_names == NAMES
    assert tuned.preprocessing.resize == "stretch"
    assert (tuned.min_scale, tuned.max_scale) == (0.2, 1.05)
    for a, b in zip(trained.backbone.get_weights(), tuned.backbone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_int8_with_a_teacher(run, tmp_path):
    trained, _ = run
    flags = ["--weights", trained / "model.keras", "--output", tmp_path / "run", *SMALL[:2]]
    assert train("detection", "--recipe", "quantize_detection", "--smoke", *flags) == 0
    model = load_model(tmp_path / "run" / "model.keras")
    assert (model.form, model.class_names) == ("quantized", NAMES)
    (log,) = csv.DictReader((tmp_path / "run" / "log.csv").open())
    assert np.isfinite(float(log["loss"])) and 0 <= float(log["val_map"]) <= 1


def test_preview_draws_boxes(tmp_path):
    path = tmp_path / "sheet.png"
    flags = ["--sizes", "64", "--base-size", "64", "--batch-size", "8"]
    assert train("preview", "--recipe", "scenes_detection", "--output", path, *flags) == 0
    pixels = np.asarray(Image.open(path)).reshape(-1, 3)
    for number in (1, 2):
        assert np.all(pixels == class_colours()[number], axis=1).any()


MISTAKES = {
    "another task's recipe": (
        ["--recipe", "scenes"],
        "for what is trained, detection. Received: 'scenes', which is for segmentation",
    ),
    "zoom": (["--zoom-out", "0.5"], "`zoom_out` must be at least 1. Received: 0.5"),
    "zoom of another crop": (
        ["--crop", "short_side", "--zoom-out", "2"],
        "`zoom_out` goes with `crop='sample'`",
    ),
    "evaluation size": (["--evaluation-size", "16"], "Received: [16]"),
    "scales": (["--min-scale", "2"], "below `max_scale`. Received: min_scale=2.0, max_scale=1.05"),
    "augmentation": (["--augmentation", "advanced"], "mixes labels"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, tmp_path, capsys):
    flags, message = MISTAKES[name]
    assert train("detection", *SMALL, "--output", tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run").exists()


def test_the_papers_recipe():
    config = DetectionConfig(**load_recipe("ssd_coco"))
    assert (config.epochs, config.batch_size, config.base_size) == (200, 128, 320)
    rates = config.initial_learning_rate, config.peak_learning_rate, config.final_learning_rate
    assert rates == (9e-5, 9e-4, 1e-6)
    assert (config.warmup_steps, config.crop, config.augmentation) == (500, "sample", "photometric")


def test_one_size_or_several():
    assert DetectionConfig(base_size=256).sizes == (256,)
    assert DetectionConfig(base_size=256, sizes=(256, 320)).sizes == (256, 320)
    tuning = {"weights": "x.keras", **load_recipe("finetune_detection")}
    assert DetectionConfig(**tuning).sizes == (320,)


def test_recipes_of_detection():
    names = {"ssd_coco", "finetune_detection", "quantize_detection", "scenes_detection"}
    assert set(recipe_names("detection")) == names
    for name in names:
        DetectionConfig(**{"weights": "x.keras", **load_recipe(name)})
        DetectionConfig(**{"weights": "x.keras", **load_recipe(name, smoke=True)})
