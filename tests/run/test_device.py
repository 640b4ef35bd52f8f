"""The script for devices without TensorFlow."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert.device import classify
from mobilevit_keras.data import load_images
from mobilevit_keras.export import export_tflite
from mobilevit_keras.export.check_images import generated_images
from tests.tiny import build_tiny

SCRIPT = Path(classify.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    model = build_tiny(
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
