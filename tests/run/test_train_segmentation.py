"""The commands on masks, as a person runs them, and the mistakes a person makes."""

import contextlib
import csv
import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from mobilevit_keras import MobileViTImageSegmenter, commands
from mobilevit_keras.models import load_model
from mobilevit_keras.palette import class_colours
from tests.masks import NAMES, ColouredScenes
from tests.run.stopping import check_stopped_is_whole
from tests.tiny import build_tiny, build_tiny_segmenter
from train import assembly
from train.__main__ import main
from train.config import CONFIGS, SegmentationConfig
from train.recipe_files import load_recipe, recipe_names


def train(*arguments) -> int:
    return commands.run(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def scenes():
    """`scenes` is a source in memory, and a new model a tiny one."""
    patch = pytest.MonkeyPatch()
    opened = []

    def open_scenes(data, **options):
        opened.append((data, options))
        return ColouredScenes()

    patch.setattr(assembly, "open_source", open_scenes)
    patch.setattr("mobilevit_keras.data.open_source", open_scenes)
    patch.setattr(
        MobileViTImageSegmenter,
        "from_variant",
        lambda variant, class_names, preprocessing, **options: tiny(class_names, preprocessing),
    )
    yield opened
    patch.undo()


def tiny(class_names, preprocessing=None):
    model = build_tiny_segmenter(len(class_names), class_names, num_layers=(1, 1, 1))
    return (
        model
        if preprocessing is None
        else model.with_classes(class_names, preprocessing=preprocessing)
    )


SMALL = [
    "--data", "scenes", "--sizes", "32", "48", "--base-size", "32", "--batch-size", "8",
    "--epochs", "2", "--ema-decay", "0.5", "--verbose", "2", "--checkpoint-every", "2",
    "--evaluation-size", "48", "64", "--class-weights", "balanced", "--warmup-steps", "0",
    "--validation-every", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, scenes):
    """A finished run, and what the command printed."""
    output = tmp_path_factory.mktemp("runs") / "scenes"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert train("segmentation", *SMALL, "--output", output) == 0
    return output, printed.getvalue()


def test_the_runs_folder(run, scenes):
    output, printed = run
    assert "3 classes (ground, red, blue), 24 training and 6 validation images" in printed
    model = load_model(output / "model.keras")
    assert model.class_names == NAMES
    assert (model.preprocessing.resize, model.preprocessing.crop_size) == ("stretch", (48, 64))
    rows = list(csv.DictReader((output / "log.csv").open()))
    assert {"loss", "mean_iou", "pixel_accuracy", "val_loss", "val_mean_iou"} <= set(rows[0])
    assert rows[0]["val_mean_iou"] == "" and float(rows[1]["val_mean_iou"]) > 0
    assert load_model(output / "best.keras").class_names == NAMES
    assert Image.open(output / "curves.png").size[0] > 800
    assert len(list((output / "samples").glob("*.png"))) == 6
    saved = yaml.safe_load((output / "config.yaml").read_text())
    config = SegmentationConfig(**saved)
    assert (config.task, config.sizes, config.evaluation_size) == (
        "segmentation",
        (32, 48),
        (48, 64),
    )
    assert ("scenes", {"fields": ("mask",), "shuffle_buffer": None}) in scenes


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same_to_the_bit(run, tmp_path, monkeypatch):
    """With class weights, a head that learns faster, an average, and one validation."""
    output, _ = run
    check_stopped_is_whole(train, "segmentation", SMALL, output, tmp_path / "run", monkeypatch)


class TestEvaluate:
    def test_the_figures_and_those_of_each_class(self, run, scenes, capsys):
        output, _ = run
        arguments = ["--model", output / "model.keras", "--data", "scenes"]
        assert train("evaluate", *arguments) == 0
        assert scenes[-1] == ("scenes", {"fields": ("mask",)})
        line, *table = capsys.readouterr().out.splitlines()
        result = json.loads(line)
        figures = ["mean_iou", "pixel_accuracy", "class_iou", "images", "milliseconds_per_image"]
        assert list(result) == figures and result["images"] == 6
        assert list(result["class_iou"]) == list(NAMES)
        assert result["mean_iou"] == pytest.approx(
            np.mean(list(result["class_iou"].values())), abs=1e-5
        )
        assert table[1].split() == ["class_iou", "48x64"]
        assert [row.split()[0] for row in table[2:]] == list(NAMES)
        assert table[2].split()[1] == f"{result['class_iou']['ground']:.2%}"

    def test_at_several_sizes(self, run, capsys):
        output, _ = run
        arguments = ["--model", output / "model.keras", "--data", "scenes"]
        assert train("evaluate", *arguments, "--sizes", "32", "48x64") == 0
        lines = capsys.readouterr().out.splitlines()
        assert [json.loads(line)["size"] for line in lines[:2]] == [32, [48, 64]]
        assert lines[3].split() == ["size", "mean_iou", "pixel_accuracy", "ms/image"]
        assert [line.split()[0] for line in lines[4:6]] == ["32", "48x64"]
        assert lines[7].split() == ["class_iou", "32", "48x64"] and len(lines) == 11

    def test_pictures(self, run, tmp_path):
        output, _ = run
        arguments = ["--model", output / "model.keras", "--data", "scenes"]
        arguments += ["--confusion", tmp_path / "confusion.png", "--sheet", tmp_path / "sheet.png"]
        assert train("evaluate", *arguments) == 0
        assert Image.open(tmp_path / "confusion.png").width > 300
        pixels = np.asarray(Image.open(tmp_path / "sheet.png")).reshape(-1, 3)
        # Red and blue are in every mask of the six.
        for number in (1, 2):
            assert np.all(pixels == class_colours()[number], axis=1).sum() > 6 * 50

    @pytest.mark.parametrize("flag", ["--confusion", "--sheet"])
    @pytest.mark.parametrize("name", ["picture", "model.keras"])
    def test_a_picture_without_a_format_is_told_of_before_all_else(
        self, flag, name, tmp_path, monkeypatch, capsys
    ):
        build_tiny_segmenter(3, NAMES).save(tmp_path / "model.keras")
        model = (tmp_path / "model.keras").read_bytes()
        monkeypatch.setattr("mobilevit_keras.evaluation.evaluate", lambda *_: pytest.fail("late"))
        arguments = ["--model", tmp_path / "model.keras", "--data", "scenes"]
        assert train("evaluate", *arguments, flag, tmp_path / name) == 2
        assert f"known extension such as .png. Received: {tmp_path / name}" in (
            capsys.readouterr().err
        )
        assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
        assert (tmp_path / "model.keras").read_bytes() == model

    def test_a_classifier_has_no_sheet(self, tmp_path, capsys):
        build_tiny(3, NAMES).save(tmp_path / "model.keras")
        arguments = ["--model", tmp_path / "model.keras", "--data", "scenes"]
        assert train("evaluate", *arguments, "--sheet", tmp_path / "sheet.png") == 2
        assert "no sheet of examples for classification" in capsys.readouterr().err


class TestWeights:
    @pytest.mark.parametrize("build", [build_tiny, build_tiny_segmenter])
    def test_a_backbone_that_has_learned(self, build, tmp_path):
        """A classifier's, and a segmenter's of other classes."""
        trained = build(5, tuple("abcde"), num_layers=(1, 1, 1))
        trained.save(tmp_path / "trained.keras")
        config = SegmentationConfig(weights=str(tmp_path / "trained.keras"), evaluation_size=(64,))
        tuned = assembly.build_model(config, NAMES)
        assert type(tuned) is MobileViTImageSegmenter and tuned.class_names == NAMES
        assert tuned.backbone.config["output_stride"] == 16
        assert (tuned.preprocessing.resize, tuned.preprocessing.crop_size) == ("stretch", 64)
        for a, b in zip(trained.backbone.get_weights(), tuned.backbone.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        if build is build_tiny_segmenter:
            a, b = (model.head.aspp.get_weights() for model in (trained, tuned))
            assert all((x == y).all() for x, y in zip(a, b, strict=True))

    @pytest.mark.slow
    def test_int8_with_a_teacher(self, run, tmp_path):
        trained, _ = run
        flags = ["--weights", trained / "model.keras", "--output", tmp_path / "run"]
        assert (
            train(
                "segmentation", "--recipe", "quantize_segmentation", "--smoke", *SMALL[:2], *flags
            )
            == 0
        )
        model = load_model(tmp_path / "run" / "model.keras")
        assert (model.form, model.class_names) == ("quantized", NAMES)
        logs = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
        assert 0 < float(logs[-1]["val_mean_iou"]) <= 1

    def test_int8_needs_a_segmenter(self, tmp_path, capsys):
        build_tiny(3, NAMES).save(tmp_path / "trained.keras")
        flags = ["--weights", tmp_path / "trained.keras", "--output", tmp_path / "run"]
        assert train("segmentation", *SMALL, *flags, "--quantize", "int8") == 2
        error = capsys.readouterr().err
        assert "`quantize` starts from a trained MobileViTImageSegmenter" in error
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(("given", "stride"), [([], 8), (["--output-stride", "32"], 32)])
    def test_the_output_stride_is_the_weights_own_or_the_flags(self, given, stride, tmp_path):
        trained = build_tiny_segmenter(3, NAMES, output_stride=8)
        trained.save(tmp_path / "trained.keras")
        values = {"weights": str(tmp_path / "trained.keras"), "evaluation_size": (64,)}
        if given:
            values["output_stride"] = int(given[1])
        model = assembly.build_model(SegmentationConfig(**values), NAMES)
        assert model.backbone.config["output_stride"] == stride


class TestPreview:
    def test_by_the_recipe(self, tmp_path, capsys):
        path = tmp_path / "sheet.png"
        flags = ["--sizes", "32", "--base-size", "32", "--batch-size", "8"]
        assert train("preview", "--recipe", "scenes", "--output", path, *flags) == 0
        assert Image.open(path).width > 100

    def test_by_the_flag(self, tmp_path, scenes):
        flags = ["--sizes", "32", "--base-size", "32", "--batch-size", "8"]
        arguments = ["--task", "segmentation", "--data", "scenes", *flags]
        assert train("preview", *arguments, "--output", tmp_path / "sheet.png") == 0
        assert scenes[-1][1]["fields"] == ("mask",)

    def test_a_recipe_of_another_task(self, tmp_path, capsys):
        arguments = ["--recipe", "digits", "--task", "segmentation"]
        assert train("preview", *arguments, "--output", tmp_path / "sheet.png") == 2
        assert "'digits', which is for classification" in capsys.readouterr().err


def test_schedule(capsys):
    assert train("schedule", "--recipe", "deeplabv3_voc", "--images", "10582") == 0
    assert "fixed: epoch 0 of 10582 images in 83 steps" in capsys.readouterr().out
    assert train("schedule", "--task", "segmentation", "--images", "100") == 0
    assert "512" in capsys.readouterr().out


MISTAKES = {
    "another task's recipe": (
        ["--recipe", "digits"],
        "for what is trained, segmentation. Received: 'digits', which is for classification",
    ),
    "another task's key": (["--recipe", "{other}"], "Received: 'label_smoothing' in {other}"),
    "no task": (["--recipe", "{nobody}"], "which is for nobody"),
    "class weights": (
        ["--class-weights", "rare"],
        "`class_weights` must be one of ('none', 'balanced', 'softened'). Received: 'rare'",
    ),
    "output stride": (
        ["--output-stride", "4"],
        "`output_stride` must be one of (None, 8, 16, 32). Received: 4",
    ),
    "evaluation size": (
        ["--evaluation-size", "64", "64", "64"],
        "`evaluation_size` must be one or two numbers of at least 32",
    ),
    "small evaluation size": (["--evaluation-size", "16"], "Received: [16]"),
    "dropout": (["--aspp-dropout", "1"], "`aspp_dropout` must be from 0 up to"),
    "rate of the head": (
        ["--head-learning-rate-factor", "0"],
        "`head_learning_rate_factor` must be positive",
    ),
    "crop": (["--crop", "centre"], "`crop` must be one of"),
    "short side": (["--short-side", "2", "1"], "`short_side` must be two rising"),
    "augmentation": (["--augmentation", "advanced"], "mixes labels"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, tmp_path, capsys):
    places = {"other": tmp_path / "other.yaml", "nobody": tmp_path / "nobody.yaml"}
    places["other"].write_text("label_smoothing: 0.1\n")
    places["nobody"].write_text("task: nobody\n")
    flags, message = MISTAKES[name]
    flags = [flag.format(**places) for flag in flags]
    assert train("segmentation", *SMALL, "--output", tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message.format(**places) in error
    assert not (tmp_path / "run").exists()


def test_the_papers_recipe():
    config = SegmentationConfig(**load_recipe("deeplabv3_voc"))
    assert (config.epochs, config.batch_size, config.base_size) == (50, 128, 512)
    rates = config.initial_learning_rate, config.peak_learning_rate, config.final_learning_rate
    assert rates == (9e-5, 9e-4, 1e-6)
    assert (config.head_learning_rate_factor, config.short_side) == (10.0, (0.5, 2.0))
    assert config.recipe().head_learning_rate_factor == 10.0


def test_recipes_of_a_task():
    assert "scenes" in recipe_names("segmentation") and "digits" in recipe_names("classification")
    assert "digits" not in recipe_names("segmentation")
    assert set(recipe_names()) == {name for task in CONFIGS for name in recipe_names(task)}
