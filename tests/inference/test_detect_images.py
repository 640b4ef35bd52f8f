"""Image files in, boxes in their own pixels out."""

import json

import numpy as np
import pytest
from PIL import Image

from convert.__main__ import main
from mobilevit_keras import detect_images
from mobilevit_keras.boxes import RULES, overlaps
from mobilevit_keras.inference.detect_images import draw_detections
from tests.tiny import build_tiny, load_tiny_detector, object_images

NAMES = ("rot", "grün", "blau")


@pytest.fixture(scope="module")
def model():
    return load_tiny_detector(
        class_names=NAMES, preprocessing={"resize": "stretch", "crop_size": (64, 128)}
    )


@pytest.fixture(scope="module")
def images(model, tmp_path_factory):
    """Files of three sizes, stretched from the model's own, and what it finds there."""
    folder, found = tmp_path_factory.mktemp("images"), []
    for index, (down, right) in enumerate(((2, 2), (1, 1), (3, 2))):
        pixels, _ = object_images(1, 64, 128, seed=index + 1)
        (expected,) = model.detect(pixels / 255.0, score_threshold=0.2)
        path = folder / f"{index}.png"
        stretched = pixels[0].astype(np.uint8).repeat(down, axis=0).repeat(right, axis=1)
        Image.fromarray(stretched).save(path)
        found.append((path, expected["boxes"] * (right, down, right, down), expected["labels"]))
    return found


@pytest.mark.parametrize("batch_size", [1, 8])
def test_boxes_are_in_the_images_own_pixels(model, images, batch_size):
    answers = detect_images(model, [path for path, *_ in images], batch_size=batch_size)
    for answer, (path, boxes, labels) in zip(answers, images, strict=True):
        assert answer.path == path and answer.size == np.asarray(Image.open(path)).shape[:2]
        assert answer.boxes.dtype == np.float32 and np.all(np.diff(answer.scores) <= 0)
        assert answer.scores.min() > 0.3
        # Edges that were sharp are less so once the file has the model's size again.
        overlap = overlaps(answer.boxes, boxes) * (answer.labels[:, None] == labels)
        assert overlap.max(axis=1).min() > 0.8
        assert answer.picture is None


def test_the_rule_and_the_score(model, images):
    path = images[0][0]
    pixels = np.asarray(Image.open(path))
    for rule, arguments in RULES.items():
        (answer,) = detect_images(model, [path], score_threshold=0.02, rule=rule)
        (expected,) = model.detect(
            model.preprocess([pixels]), [pixels.shape[:2]], score_threshold=0.02, **arguments
        )
        np.testing.assert_allclose(answer.boxes, expected["boxes"], atol=1e-3)
        np.testing.assert_array_equal(answer.labels, expected["labels"])
    with pytest.raises(ValueError, match="`rule` must be one of .* Received: 'best'"):
        detect_images(model, [path], rule="best")
    with pytest.raises(ValueError, match="`score_threshold` must be .* Received: 1.5"):
        detect_images(model, [path], score_threshold=1.5)
    with pytest.raises(ValueError, match="A detector is needed. Received: a MobileViTImageClass"):
        detect_images(build_tiny(), [path])


def test_pictures(model, images, tmp_path):
    paths = [path for path, *_ in images]
    answers = detect_images(model, paths, tmp_path / "boxes")
    assert {file.name for file in (tmp_path / "boxes").iterdir()} == {
        f"{n}.boxes.jpg" for n in range(3)
    }
    for answer in answers:
        with Image.open(answer.picture) as picture:
            drawn = np.asarray(picture, np.float32)
        original = np.asarray(Image.open(answer.path))
        expected = draw_detections(answer, original)
        assert drawn.shape == original.shape and np.any(expected != original)
        # But for what JPEG leaves of it.
        place = np.any(expected != original, axis=-1)
        assert np.abs(drawn - expected)[place].mean() < 0.5 * np.abs(drawn - original)[place].mean()


def test_the_command_prints_json_lines(model, images, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    (tmp_path / "text.jpg").write_text("no image")
    paths = [str(path) for path, *_ in images]
    arguments = ["predict", str(tmp_path / "model.keras"), *paths, str(tmp_path / "text.jpg")]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--score", "0.4"]) == 2
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert "text.jpg" in printed.err
    expected = detect_images(model, paths, score_threshold=0.4)
    assert [line["image"] for line in lines] == paths
    for line, answer in zip(lines, expected, strict=True):
        assert (line["height"], line["width"]) == answer.size
        assert [box["class"] for box in line["boxes"]] == [NAMES[n] for n in answer.labels]
        places = [
            [box[side] for side in ("left", "top", "right", "bottom")] for box in line["boxes"]
        ]
        np.testing.assert_allclose(places, answer.boxes, atol=0.06)
    assert len(list((tmp_path / "out").iterdir())) == 3
