"""The script for devices without TensorFlow."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert.device import predict
from mobilevit_keras.data import load_images
from mobilevit_keras.description import write_archive
from mobilevit_keras.export import export_tflite, run_tflite
from mobilevit_keras.export.check_images import generated_images
from mobilevit_keras.inference import segment_images
from mobilevit_keras.inference.files import picture_files
from mobilevit_keras.inference.segment_images import ENDINGS
from mobilevit_keras.metrics import class_masks
from mobilevit_keras.palette import class_colours
from tests.tiny import coloured_images, load_tiny, load_tiny_segmenter, patched_images

SCRIPT = Path(predict.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    model = load_tiny(
        class_names=("a", "b", "c"), preprocessing={"short_side": 72, "crop_size": 64}
    )
    export_tflite(model, folder / "model.tflite", 64, images=generated_images(64, 64, count=2))
    for index, image in enumerate(generated_images(90, 121, count=6)):
        path = folder / f"photos/{'abc'[index % 3]}/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(image).astype(np.uint8)).save(path)
    return folder


def test_images_are_prepared_as_in_training(folder):
    classifier = predict.open_model(folder / "model.tflite", num_threads=1)
    assert classifier.labels == ["a", "b", "c"]
    for path in sorted(folder.glob("photos/*/*.png")):
        expected = 255.0 * load_images([path], 72, 64)
        prepared = classifier.prepare(predict.read_image(path))
        assert prepared.dtype == np.float32
        # Pillow rounds to whole numbers.
        np.testing.assert_allclose(prepared, expected, atol=1.01)


def test_classes_of_image_files(folder, capsys):
    image = folder / "photos/a/0.png"
    assert predict.main([str(folder / "model.tflite"), str(image), "--top", "2"]) == 0
    title, answer = capsys.readouterr().out.splitlines()
    assert title == str(image)
    assert re.fullmatch(r"  model.tflite: [abc] [\d.]+%, [abc] [\d.]+% \([\d.]+ ms\)", answer)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_file_with_a_heat_map_is_answered_like_any_other(folder, tmp_path, capsys, precision):
    model = load_tiny(
        class_names=("a", "b", "c"), preprocessing={"short_side": 72, "crop_size": 64}
    )
    images = coloured_images(8, 64)
    calibration = images if precision == "int8" else None
    arguments = (64, precision, images, calibration)
    export_tflite(model, tmp_path / "plain.tflite", *arguments)
    export_tflite(model, tmp_path / "heat.tflite", *arguments, heat_map=True)
    files = [str(tmp_path / name) for name in ("plain.tflite", "heat.tflite")]
    assert predict.main([*files, str(folder / "photos/a/0.png")]) == 0
    _, plain, heat = capsys.readouterr().out.splitlines()
    assert re.sub(r"heat| \([\d.]+ ms\)", "plain", heat) == re.sub(
        r" \([\d.]+ ms\)", "plain", plain
    )
    assert predict.main([*files, "--folder", str(folder / "photos")]) == 0
    _, plain, heat = (line.split() for line in capsys.readouterr().out.splitlines())
    assert plain[3:] == heat[3:]


def test_table_of_a_folder_without_tensorflow(folder):
    program = (
        "import sys, runpy; sys.modules['tensorflow'] = sys.modules['keras'] = None;"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, SCRIPT, folder / "model.tflite"]
        + ["--folder", folder / "photos"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert process.returncode == 0, process.stderr
    name, images, milliseconds, _, top5 = process.stdout.splitlines()[1].split()
    assert (name, images, top5) == ("model.tflite", "6", "100.0%")
    assert float(milliseconds) >= 0


def test_mistakes_end_with_status_2(folder, tmp_path, capsys):
    model = str(folder / "model.tflite")
    (tmp_path / "cut.tflite").write_bytes((folder / "model.tflite").read_bytes()[:2000])
    (tmp_path / "file").touch()
    photo = str(folder / "photos" / "a" / "0.png")
    for arguments, part in (
        ([str(tmp_path / "cut.tflite"), photo], "cut.tflite is no whole .tflite file"),
        ([model, photo, "--output", str(tmp_path / "file")], f"a file is: {tmp_path}/file."),
        ([model, photo, "--output", str(tmp_path / "file" / "x")], f"a file is: {tmp_path}/file."),
        ([str(folder / "none.tflite"), "x.png"], "none.tflite"),
        ([model, str(folder / "none.png")], "none.png"),
        ([model, "--folder", str(folder / "nowhere")], "nowhere"),
    ):
        assert predict.main(arguments) == 2
        captured = capsys.readouterr()
        assert part in captured.err and not captured.out
    with pytest.raises(SystemExit, match="2"):
        predict.main([model, photo, "--score", "nan"])
    assert "at least 0 and below 1, not nan" in capsys.readouterr().err


CASES = json.loads(
    (Path(__file__).parents[1] / "data/preprocessing_cases.json").read_text("utf-8")
)["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['image']}-{case['crop']}")
def test_sizes_are_those_of_training(case):
    resized = predict.resized_size(*case["image"], case["short_side"], tuple(case["crop"]))
    assert list(resized) == case["resized"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(folder, tmp_path, orientation):
    image = Image.open(folder / "photos/a/0.png")
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    classifier = predict.open_model(folder / "model.tflite", num_threads=1)
    expected = 255.0 * load_images([tmp_path / "turned.jpg"], 72, 64)
    np.testing.assert_allclose(
        classifier.prepare(predict.read_image(tmp_path / "turned.jpg")), expected, atol=2.01
    )


def test_names_come_from_the_file_itself(folder, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes((folder / "model.tflite").read_bytes())
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    assert predict.open_model(path, 1).labels == ["a", "b", "c"]


def test_a_file_of_an_earlier_version(folder, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes((folder / "model.tflite").read_bytes())
    write_archive(path, {})
    assert predict.open_model(path, 1).labels == ["0", "1", "2"]
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    preprocessing = {"short_side": 80, "crop_size": 64, "interpolation": "bicubic"}
    path.with_suffix(".report.json").write_text(json.dumps({"preprocessing": preprocessing}))
    classifier = predict.open_model(path, 1)
    assert classifier.labels == ["x", "y", "z"]
    assert (classifier.short_side, classifier.resampling.name) == (80, "BICUBIC")


def test_unreadable_images_are_named_and_the_others_answered(folder, tmp_path, capsys):
    huge = tmp_path / "huge.png"
    chunks = b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in (
            (b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(bytes(100))),
        )
    )
    huge.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    good = str(folder / "photos/a/0.png")
    assert predict.main([str(folder / "model.tflite"), str(huge), good]) == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == good
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error")]
    assert "huge.png is too large an image" in line


def test_scoring_training_images_is_said(folder, tmp_path, capsys):
    model = str(folder / "model.tflite")
    assert predict.main([model, "--folder", str(folder / "photos")]) == 0
    assert "all 6 images are scored, those that a model was trained on" in capsys.readouterr().err
    shutil.copytree(folder / "photos", tmp_path / "photos/train")
    shutil.copytree(folder / "photos/a", tmp_path / "photos/validation/a")
    assert predict.main([model, "--folder", str(tmp_path / "photos")]) == 0
    printed = capsys.readouterr()
    assert "scored" not in printed.err
    assert printed.out.splitlines()[1].split()[1] == "2"


@pytest.fixture(scope="module")
def model():
    return load_tiny_segmenter(
        class_names=("red", "green", "blue"),
        preprocessing={"resize": "stretch", "crop_size": (64, 96)},
    )


@pytest.fixture(scope="module")
def streets(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenter")
    images, _ = patched_images(4, 64, 96)
    export_tflite(model, folder / "streets.tflite", (64, 96), images=images)
    (pixels,), _ = patched_images(1, 180, 131, seed=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels.astype(np.uint8)).save(folder / "a.png")
    Image.fromarray(pixels.astype(np.uint8)).save(folder / "turned.jpg", exif=exif, quality=95)
    return folder


class TestSegmenter:
    def test_masks_are_those_of_the_package(self, model, streets, tmp_path, capsys):
        images = [streets / "a.png", streets / "turned.jpg"]
        arguments = [str(streets / "streets.tflite"), *map(str, images)]
        assert predict.main([*arguments, "--output", str(tmp_path / "device")]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[::2] == list(map(str, images))
        ours = segment_images(model, images, tmp_path / "package")
        for answer, line in zip(ours, lines[1::2], strict=True):
            with Image.open(tmp_path / "device" / answer.mask_file.name) as picture:
                assert picture.mode == "P"
                mask = np.asarray(picture)
                colours = np.asarray(picture.convert("RGB"))
            # Pillow rounds what it resizes to whole numbers.
            assert np.mean(mask == answer.mask) > 0.99
            np.testing.assert_array_equal(colours, class_colours()[mask])
            with Image.open(tmp_path / "device" / answer.overlay_file.name) as picture:
                drawn = np.asarray(picture, np.float32)
            with Image.open(answer.overlay_file) as picture:
                assert np.abs(drawn - np.asarray(picture, np.float32)).mean() < 4
            shares = {name: np.mean(mask == i) for i, name in enumerate(("red", "green", "blue"))}
            best = max(shares, key=shares.get)
            assert line.startswith(f"  streets.tflite: {best} {shares[best]:.1%}, ")
            assert re.search(r" \([\d.]+ ms\)$", line)
        assert not [file for file in tmp_path.rglob("*") if file.name.startswith(".partial")]

    def test_nothing_is_written_without_a_folder_for_it(self, streets, capsys):
        before = sorted(streets.iterdir())
        assert predict.main([str(streets / "streets.tflite"), str(streets / "a.png")]) == 0
        assert sorted(streets.iterdir()) == before
        assert "red" in capsys.readouterr().out

    def test_it_needs_no_tensorflow(self, streets, tmp_path):
        program = (
            "import sys, runpy; sys.modules['tensorflow'] = sys.modules['keras'] = None;"
            "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        shutil.copy(SCRIPT, tmp_path / "copied.py")
        process = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "copied.py", streets / "streets.tflite"]
            + [streets / "a.png", "--output", tmp_path / "out"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
        )
        assert process.returncode == 0, process.stderr
        assert {file.name for file in (tmp_path / "out").iterdir()} == {
            "a.mask.png",
            "a.overlay.jpg",
        }

    @pytest.mark.parametrize("shape", [(300, 7), (5, 600), (64, 96), (257, 258)])
    def test_logits_are_enlarged_as_in_the_package(self, shape):
        logits = np.random.default_rng(0).normal(size=(4, 6, 5)).astype("f4")
        mask = predict.class_mask(logits, *shape)
        assert mask.dtype == np.uint8
        assert np.mean(mask == class_masks(logits[None], *shape)[0]) > 0.9995
        # Of equal logits the first class's number, everywhere.
        assert not predict.class_mask(np.zeros((2, 3, 4), "f4"), *shape).any()

    def test_palette_and_names_are_those_of_the_package(self, tmp_path):
        np.testing.assert_array_equal(predict.palette(256), class_colours())
        images = [Path("a/x.png"), Path("b/x.png"), Path("x-2.png")]
        names = predict.picture_names(images, tmp_path, predict.Segmenter.endings)
        assert names == picture_files(images, tmp_path, ENDINGS)

    def test_pictures_never_replace_images(self, streets, tmp_path, capsys):
        for name in ("a.png", "a.mask.png"):
            shutil.copy(streets / "a.png", tmp_path / name)
        before = (tmp_path / "a.mask.png").read_bytes()
        images = [str(tmp_path / "a.png"), str(tmp_path / "a.mask.png")]
        arguments = [str(streets / "streets.tflite"), *images, "--output", str(tmp_path)]
        assert predict.main(arguments) == 2
        assert "a.mask.png is an image to read" in capsys.readouterr().err
        assert (tmp_path / "a.mask.png").read_bytes() == before

    def test_several_models_write_side_by_side(self, streets, folder, tmp_path, capsys):
        shutil.copy(streets / "streets.tflite", tmp_path / "other.tflite")
        models = [streets / "streets.tflite", tmp_path / "other.tflite", folder / "model.tflite"]
        arguments = [*models, streets / "a.png", "--output", tmp_path / "out"]
        assert predict.main(list(map(str, arguments))) == 0
        assert len(capsys.readouterr().out.splitlines()) == 4
        found = {
            file.relative_to(tmp_path / "out").as_posix() for file in tmp_path.rglob("out/*/*")
        }
        assert found == {
            f"{name}.tflite/a.{kind}"
            for name in ("streets", "other")
            for kind in ("mask.png", "overlay.jpg")
        }

    def test_a_table_is_of_classifiers(self, streets, folder, capsys):
        arguments = [str(streets / "streets.tflite"), "--folder", str(folder / "photos")]
        assert predict.main(arguments) == 2
        assert "A table is of classifiers. streets.tflite is none" in capsys.readouterr().err

    def test_images_are_stretched_as_in_training(self, model, streets):
        segmenter = predict.open_model(streets / "streets.tflite", 1)
        expected = 255.0 * model.preprocess([streets / "a.png"])
        prepared = segmenter.prepare(predict.read_image(streets / "a.png"))
        # Pillow rounds to whole numbers.
        np.testing.assert_allclose(prepared, expected, atol=1.01)
        answers = run_tflite(streets / "streets.tflite", prepared).outputs["segmentation"]
        np.testing.assert_array_equal(segmenter.run(prepared)[0], answers[0])
