"""The export commands as a person calls them: what they print, write and answer."""

import json
import re
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from convert.__main__ import main
from mobilevit_keras import commands
from mobilevit_keras.description import read_description
from mobilevit_keras.export import run_tfjs, run_tflite
from mobilevit_keras.export.report import record_accuracy
from tests.tiny import load_tiny, load_tiny_segmenter, patched_images


@pytest.fixture
def convert(capfd):
    """Runs a subcommand in this process; gives exit status, output and error output."""

    def run(*arguments):
        status = commands.run(main, list(map(str, arguments)))
        return status, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = load_tiny(
        class_names=("a", "b", "c"), preprocessing={"short_side": 64, "crop_size": 64}
    )
    model.save(folder / "model.keras")
    (folder / "samples").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"samples/{index}.png")
    return folder


@pytest.mark.tfjs
@pytest.mark.slow
def test_both_formats(run_folder, convert):
    for command, name in (("tflite", "model.tflite"), ("tfjs", "tfjs")):
        status, printed, errors = convert(command, run_folder / "model.keras", run_folder / name)
        assert status == 0, errors
        assert "largest difference" in printed
        assert "of 10 images" in printed
    report = json.loads((run_folder / "model.report.json").read_text("utf-8"))
    assert report["size"] == [64, 64]
    image = np.full((1, 64, 64, 3), 128.0)
    answers = run_tflite(run_folder / "model.tflite", image).outputs
    for name, values in run_tfjs(run_folder / "tfjs", image).outputs.items():
        np.testing.assert_allclose(answers[name], values, atol=1e-4)


def test_mistakes_end_with_status_2_and_one_line(run_folder, convert, tmp_path):
    other = tmp_path / "other.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save(other)
    broken = tmp_path / "broken.keras"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("dear", "reader")
    model, output = run_folder / "model.keras", tmp_path / "out.tflite"
    trained = model.read_bytes()
    cases = [
        ((tmp_path / "none.keras", output), "none.keras"),
        ((other, output), "other.keras, which holds a Sequential"),
        ((broken, output), "broken.keras"),
        ((model, output, "--size", "31"), "31x31"),
        ((model, output, "--precision", "int3"), "int3"),
        ((model, output, "--images", tmp_path / "nowhere"), "nowhere"),
        ((model, other / "out.tflite"), "other.keras"),
        ((model, model), "must end in .tflite"),
        ((model, run_folder / "samples/0.png"), "must end in .tflite"),
    ]
    for arguments, part in cases:
        status, _, errors = convert("tflite", *arguments)
        assert status == 2, errors
        line = errors.strip().splitlines()[-1]
        assert line.startswith("error: ") and part in line
        assert "Traceback" not in errors
    assert {file.name for file in tmp_path.iterdir()} == {"other.keras", "broken.keras"}
    status, _, errors = convert("tfjs", model, model)
    assert status == 2 and "A folder is needed" in errors
    assert model.read_bytes() == trained


def test_benchmark(run_folder, convert, tmp_path):
    model = run_folder / "model.tflite"
    if not model.exists():
        convert("tflite", run_folder / "model.keras", model)
    record_accuracy(model, {"top1": 0.5, "top5": 1.0}, 10)
    status, printed, errors = convert(
        *("benchmark", model, model, "--rounds", "2"),
        *("--json", tmp_path / "times.json", "--plot", tmp_path / "plot.png"),
    )
    assert status == 0, errors
    assert printed.count("model.tflite") == 2 and "50.0%" in printed
    first, second = json.loads((tmp_path / "times.json").read_text("utf-8"))
    assert first["ratio"] == 1.0
    assert 0 < first["minimum_ms"] <= first["median_ms"]
    assert first["xnnpack_partitions"] == 1
    assert second["bytes"] == model.stat().st_size
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_of_the_runtimes_reaches_the_terminal(run_folder, convert):
    """In a process of its own: they introduce themselves once."""
    model = run_folder / "model.tflite"
    if not model.exists():
        convert("tflite", run_folder / "model.keras", model)
    command = [sys.executable, "-m", "convert", "benchmark", str(model), "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "model.tflite" in done.stdout
    assert done.stderr == ""


def test_benchmark_mistakes(run_folder, convert, tmp_path):
    (tmp_path / "text.tflite").write_text("dear reader")
    for arguments, part in (
        ((tmp_path / "none.tflite",), "none.tflite"),
        ((tmp_path / "text.tflite",), "text.tflite"),
    ):
        status, _, errors = convert("benchmark", *arguments)
        assert status == 2
        assert part in errors.strip().splitlines()[-1]


def test_predict_answers_for_the_files_that_it_can_read(run_folder, convert, tmp_path):
    (tmp_path / "bad.jpg").write_text("dear reader")
    good = [run_folder / "samples/0.png", run_folder / "samples/1.png"]
    paths = (good[0], tmp_path / "bad.jpg", tmp_path / "absent.jpg", good[1])
    status, printed, errors = convert("predict", run_folder / "model.keras", *paths)
    assert status == 2
    assert [line.partition(": ")[0] for line in printed.splitlines()] == [str(p) for p in good]
    lines = [line for line in errors.splitlines() if "error: " in line or "could not" in line]
    assert "bad.jpg" in lines[0] and "absent.jpg" in lines[1]
    assert lines[2] == "2 of 4 files could not be read"
    assert convert("predict", run_folder / "model.keras", *good)[0] == 0


@pytest.fixture(scope="module")
def segmenter_folder(tmp_path_factory):
    """A run's folder with a segmenter and samples."""
    folder = tmp_path_factory.mktemp("segmenter")
    load_tiny_segmenter(
        class_names=("red", "green", "blue"),
        preprocessing={"resize": "stretch", "crop_size": 64},
    ).save(folder / "model.keras")
    (folder / "samples").mkdir()
    for index, image in enumerate(patched_images(4, 90, 120)[0]):
        Image.fromarray(image.astype(np.uint8)).save(folder / f"samples/{index}.png")
    return folder


class TestSegmenter:
    @pytest.mark.slow
    def test_export_and_benchmark(self, segmenter_folder, convert, tmp_path):
        model = segmenter_folder / "model.keras"
        for precision in ("float32", "int8"):
            arguments = ["--precision", precision]
            arguments += (
                ["--calibration", segmenter_folder / "samples"] if precision == "int8" else []
            )
            status, printed, errors = convert(
                "tflite", model, tmp_path / f"{precision}.tflite", *arguments
            )
            assert status == 0, errors
            assert "Against Keras: same class on " in printed and "of the pixels" in printed
        files = [tmp_path / "float32.tflite", tmp_path / "int8.tflite"]
        record_accuracy(files[1], {"mean_iou": 0.5, "pixel_accuracy": 0.75}, 4)
        status, printed, errors = convert("benchmark", *files, "--rounds", "2")
        assert status == 0, errors
        assert "64x64" in printed and "50.0%" in printed

    @pytest.mark.slow
    def test_summary(self, segmenter_folder, convert, tmp_path):
        """Two files of two sizes beside the model, on a folder of masks."""
        run, data = tmp_path / "run", tmp_path / "data"
        run.mkdir()
        shutil.copy(segmenter_folder / "model.keras", run)
        for name, size in (("same", "64"), ("other", "64x96")):
            arguments = ("--size", size, "--images", segmenter_folder / "samples")
            status, _, errors = convert(
                "tflite", run / "model.keras", run / f"{name}.tflite", *arguments
            )
            assert status == 0, errors
        for split, seed in (("train", 1), ("validation", 2)):
            pairs = zip(*patched_images(3, 90, 120, seed=seed), strict=True)
            for index, (image, mask) in enumerate(pairs):
                for kind, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
                    path = data / kind / split / f"{index}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
        (data / "classes.txt").write_text("red\ngreen\nblue\n")
        status, printed, errors = convert("summary", run, "--data", f"masks:{data}")
        assert status == 0, errors
        lines = printed.splitlines()
        assert lines[0].startswith("3 validation images") and "mean_iou" in lines[1]
        rows = {line.split()[0]: line for line in lines[2:5]}
        assert rows.keys() == {"model.keras", "same.tflite", "other.tflite"}
        for name in ("same.tflite", "other.tflite"):
            assert "same class on 100.00% of the pixels" in rows[name]
            accuracy = read_description(run / name)["accuracy"]
            assert accuracy["images"] == 3 and 0.5 < accuracy["mean_iou"] < 1.0
            assert f"{accuracy['mean_iou']:.2%}" in rows[name]

    def test_predict_prints_shares_and_writes_pictures(self, segmenter_folder, convert, tmp_path):
        (tmp_path / "bad.jpg").write_text("dear reader")
        good = [segmenter_folder / "samples/0.png", segmenter_folder / "samples/1.png"]
        arguments = (
            "predict",
            segmenter_folder / "model.keras",
            good[0],
            tmp_path / "bad.jpg",
            good[1],
        )
        status, printed, errors = convert(*arguments, "--output", tmp_path / "out")
        assert status == 2 and "1 of 3 files could not be read" in errors
        lines = printed.splitlines()
        assert [line.partition(": ")[0] for line in lines] == [str(path) for path in good]
        for path, line in zip(good, lines, strict=True):
            with Image.open(tmp_path / "out" / f"{path.stem}.mask.png") as picture:
                assert picture.mode == "P" and picture.size == (120, 90)
                counts = np.bincount(np.asarray(picture).ravel(), minlength=3)
            first = ("red", "green", "blue")[counts.argmax()]
            assert f": {first} {counts.max() / (90 * 120):.1%}" in line
        assert len(list((tmp_path / "out").iterdir())) == 4
        # Without a folder nothing is written.
        status, printed, _ = convert(
            "predict", segmenter_folder / "model.keras", good[0], "--top", "1"
        )
        assert status == 0 and "," not in printed
        assert len(list(segmenter_folder.iterdir())) == 2

    def test_predict_mistakes(self, segmenter_folder, run_folder, convert, tmp_path):
        image = segmenter_folder / "samples/0.png"
        (tmp_path / "file").touch()
        for arguments, part in (
            ((run_folder / "model.keras", image, "--output", tmp_path), "detector's pictures"),
            ((run_folder / "model.keras", image, "--score", "0.5"), "are a detector's"),
            ((segmenter_folder / "model.keras", image, "--top", "0"), "`top` must be positive"),
            (
                (segmenter_folder / "model.keras", image, "--batch-size", "0"),
                "`batch_size` must be",
            ),
            ((segmenter_folder / "model.keras", image, "--output", tmp_path / "file"), "file"),
        ):
            status, _, errors = convert("predict", *arguments)
            assert status == 2
            line = errors.strip().splitlines()[-1]
            assert line.startswith("error: ") and part in line


class TestExplain:
    def test_pictures_of_where_a_class_is(self, run_folder, convert, tmp_path):
        (tmp_path / "bad.jpg").write_text("dear reader")
        good = [run_folder / "samples/0.png", run_folder / "samples/1.png"]
        before = [path.read_bytes() for path in good]
        arguments = ("--model", run_folder / "model.keras", "--output", tmp_path / "heat")
        status, printed, errors = convert(
            "explain", good[0], tmp_path / "bad.jpg", good[1], *arguments
        )
        assert status == 2 and "1 of 3 files could not be read" in errors
        lines = printed.splitlines()
        for path, line in zip(good, lines, strict=True):
            picture = tmp_path / "heat" / f"{path.stem}.heat.jpg"
            assert re.fullmatch(rf"{path}: [abc] 0\.\d\d\d, {picture}", line)
            with Image.open(picture) as image:
                assert image.size == (64, 64)
        assert len(list((tmp_path / "heat").iterdir())) == 2
        assert [path.read_bytes() for path in good] == before

    def test_attention_and_another_class(self, run_folder, convert, tmp_path):
        image = run_folder / "samples/0.png"
        status, printed, errors = convert(
            *("explain", image, "--model", run_folder / "model.keras", "--output", tmp_path),
            *("--class", "b", "--attention"),
        )
        assert status == 0, errors
        assert f"{image}: b 0." in printed
        names = {file.name for file in tmp_path.iterdir()}
        assert names == {f"0.{ending}.jpg" for ending in ("heat", "P3", "P4", "P5")}

    def test_mistakes(self, run_folder, segmenter_folder, convert, tmp_path):
        model, image = run_folder / "model.keras", run_folder / "samples/0.png"
        (tmp_path / "file").touch()
        for arguments, part in (
            (("--model", segmenter_folder / "model.keras"), "A classifier is needed"),
            (("--model", model, "--class", "d"), "must be one of the model's: a, b, c"),
            (("--model", model, "--batch-size", "0"), "`batch_size` must be positive"),
            (("--model", tmp_path / "none.keras"), "none.keras"),
        ):
            status, _, errors = convert("explain", image, *arguments, "--output", tmp_path / "out")
            assert status == 2
            line = errors.strip().splitlines()[-1]
            assert line.startswith("error: ") and part in line
        status, _, errors = convert(
            "explain", image, "--model", model, "--output", tmp_path / "file"
        )
        assert status == 2 and errors.strip().splitlines()[-1].startswith("error: ")
        assert [file.name for file in tmp_path.iterdir()] == ["file"]

    def test_only_a_classifiers_file_has_a_heat_map(self, segmenter_folder, convert, tmp_path):
        model = segmenter_folder / "model.keras"
        status, _, errors = convert("tflite", model, tmp_path / "out.tflite", "--heat-map")
        assert status == 2 and not any(tmp_path.iterdir())
        (line,) = errors.strip().splitlines()
        assert line == ("error: Only a classifier's file has a heat map. Received: segmentation.")
