"""Boxes on devices without TensorFlow: they are those of the package."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from convert.device import predict
from mobilevit_keras.boxes import RULES, BoxDecoding, overlaps, suppress
from mobilevit_keras.export import export_tflite
from mobilevit_keras.inference import detect_images
from tests.tiny import load_tiny_detector, object_images

pytestmark = pytest.mark.slow

SIZE = (64, 128)
NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model():
    return load_tiny_detector(
        class_names=NAMES, preprocessing={"resize": "stretch", "crop_size": SIZE}
    )


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Files of both forms, and two images."""
    folder = tmp_path_factory.mktemp("detector")
    images, _ = object_images(6, *SIZE, seed=1)
    for form in ("runtime", "in-file"):
        export_tflite(model, folder / f"{form}.tflite", SIZE, images=images, suppression=form)
    for name, seed in (("a", 1), ("b", 2)):
        (pixels,), _ = object_images(1, 192, 256, seed=seed)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("form", ["runtime", "in-file"])
def test_boxes_are_those_of_the_package(model, folder, tmp_path, capsys, form):
    images = [folder / "a.png", folder / "b.png"]
    arguments = [folder / f"{form}.tflite", *images, "--score", "0.2", "--output", tmp_path]
    assert predict.main(list(map(str, arguments))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == list(map(str, images))
    expected = detect_images(model, images, score_threshold=0.15)
    for answer, line in zip(expected, lines[1::2], strict=True):
        name, _, rest = line.strip().partition(": ")
        assert name == f"{form}.tflite"
        found = json.loads(rest.rpartition(" (")[0])
        assert len(found) > 0
        boxes = np.array([[b[s] for s in ("left", "top", "right", "bottom")] for b in found], "f4")
        same = np.array([b["class"] for b in found])[:, None] == np.array(NAMES)[answer.labels]
        # Pillow rounds what it resizes to whole numbers.
        assert (overlaps(boxes, answer.boxes) * same).max(axis=1).min() > 0.9
        with (
            Image.open(answer.path) as image,
            Image.open(tmp_path / f"{answer.path.stem}.boxes.jpg") as drawn,
        ):
            assert drawn.size == image.size


def test_anchors_and_boxes_are_the_packages(model, rng):
    decoding = model.decoding(*SIZE)
    anchors = predict.make_anchors(decoding.as_json(), *SIZE)
    np.testing.assert_allclose(anchors, decoding.anchors, atol=1e-7)
    location = rng.normal(0.0, 1.0, (len(anchors), 4)).astype("f4")
    boxes = predict.decode(location, anchors, decoding.as_json()["variance"])
    np.testing.assert_allclose(boxes, decoding.boxes(location), atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_suppression_is_the_packages(rng, rule):
    decoding = BoxDecoding((128, 128), 0.1, 1.05)
    boxes = decoding.boxes(rng.normal(0.0, 1.0, (1, len(decoding.anchors), 4)))
    scores = rng.uniform(0.0, 1.0, (1, len(decoding.anchors), 5)).astype("f4")
    (expected,) = suppress(boxes, scores, 0.3, **RULES[rule])
    found = predict.suppress(boxes[0], scores[0], 0.3, **predict.RULES[rule])
    assert len(expected["labels"]) > 50
    for values, name in zip(found, ("boxes", "labels", "scores"), strict=True):
        np.testing.assert_allclose(values, expected[name], atol=1e-6)


def test_it_needs_no_tensorflow(folder, tmp_path):
    program = (
        "import sys, runpy; sys.modules['tensorflow'] = sys.modules['keras'] = None;"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    shutil.copy(predict.__file__, tmp_path / "copied.py")
    process = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "copied.py", folder / "runtime.tflite"]
        + [folder / "a.png", "--output", tmp_path / "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
    )
    assert process.returncode == 0, process.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.boxes.jpg"]
