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

from convert.device import classify
from mobilevit_keras.data import load_images
from mobilevit_keras.description import write_archive
from mobilevit_keras.export import export_tflite
from mobilevit_keras.export.check_images import generated_images
from tests.tiny import load_tiny

SCRIPT = Path(classify.__file__)


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
    classifier = classify.Classifier(folder / "model.tflite", num_threads=1)
    assert classifier.labels == ["a", "b", "c"]
    for path in sorted(folder.glob("photos/*/*.png")):
        expected = 255.0 * load_images([path], 72, 64)
        prepared = classifier.prepare(path)
        assert prepared.dtype == np.float32
        # Pillow rounds to whole numbers.
        np.testing.assert_allclose(prepared, expected, atol=1.01)


def test_classes_of_image_files(folder, capsys):
    image = folder / "photos/a/0.png"
    assert classify.main([str(folder / "model.tflite"), str(image), "--top", "2"]) == 0
    title, answer = capsys.readouterr().out.splitlines()
    assert title == str(image)
    assert re.fullmatch(r"  model.tflite: [abc] [\d.]+%, [abc] [\d.]+% \([\d.]+ ms\)", answer)


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


def test_mistakes_end_with_status_2(folder, capsys):
    model = str(folder / "model.tflite")
    for arguments, part in (
        ([str(folder / "none.tflite"), "x.png"], "none.tflite"),
        ([model, str(folder / "none.png")], "none.png"),
        ([model, "--folder", str(folder / "nowhere")], "nowhere"),
    ):
        assert classify.main(arguments) == 2
        assert part in capsys.readouterr().err


CASES = json.loads(
    (Path(__file__).parents[1] / "data/preprocessing_cases.json").read_text("utf-8")
)["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['image']}-{case['crop']}")
def test_sizes_are_those_of_training(case):
    resized = classify.resized_size(*case["image"], case["short_side"], tuple(case["crop"]))
    assert list(resized) == case["resized"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(folder, tmp_path, orientation):
    image = Image.open(folder / "photos/a/0.png")
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    classifier = classify.Classifier(folder / "model.tflite", num_threads=1)
    expected = 255.0 * load_images([tmp_path / "turned.jpg"], 72, 64)
    np.testing.assert_allclose(classifier.prepare(tmp_path / "turned.jpg"), expected, atol=2.01)


def test_names_come_from_the_file_itself(folder, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes((folder / "model.tflite").read_bytes())
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    assert classify.Classifier(path, 1).labels == ["a", "b", "c"]


def test_a_file_of_an_earlier_version(folder, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes((folder / "model.tflite").read_bytes())
    write_archive(path, {})
    assert classify.Classifier(path, 1).labels == ["0", "1", "2"]
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    preprocessing = {"short_side": 80, "crop_size": 64, "interpolation": "bicubic"}
    path.with_suffix(".report.json").write_text(json.dumps({"preprocessing": preprocessing}))
    classifier = classify.Classifier(path, 1)
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
    assert classify.main([str(folder / "model.tflite"), str(huge), good]) == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == good
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error")]
    assert "huge.png is too large an image" in line


def test_scoring_training_images_is_said(folder, tmp_path, capsys):
    model = str(folder / "model.tflite")
    assert classify.main([model, "--folder", str(folder / "photos")]) == 0
    assert "all 6 images are scored, those that a model was trained on" in capsys.readouterr().err
    shutil.copytree(folder / "photos", tmp_path / "photos/train")
    shutil.copytree(folder / "photos/a", tmp_path / "photos/validation/a")
    assert classify.main([model, "--folder", str(tmp_path / "photos")]) == 0
    printed = capsys.readouterr()
    assert "scored" not in printed.err
    assert printed.out.splitlines()[1].split()[1] == "2"
