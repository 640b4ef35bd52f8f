"""Accuracy of models in every format on labelled images."""

import dataclasses
import json

import numpy as np
import pytest

from mobilevit_keras.data import open_source
from mobilevit_keras.evaluation import Evaluation, evaluate, open_predictor
from mobilevit_keras.export import export_tflite
from mobilevit_keras.export.check_images import generated_images
from mobilevit_keras.models import Preprocessing
from tests.photos import write_coloured_photos
from tests.tiny import build_tiny

NAMES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for split in ("train", "validation"):
        write_coloured_photos(folder / split, {"red": 0, "green": 1, "blue": 2}, 3)
    return open_source(f"folder:{folder}")


def save(folder, **arguments):
    path = folder / "model.keras"
    preprocessing = {"short_side": 36, "crop_size": 32}
    build_tiny(preprocessing=preprocessing, **arguments).save(path)
    return path


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (("red", "green", "blue"), "in the same order. Received: class 0 is 'red' in"),
        (("blue", "green", "pink"), "of the same names. Received: class 2 is 'pink' in"),
    ],
)
def test_other_classes_or_another_order_give_no_accuracy(source, tmp_path, names, part):
    predictor = open_predictor(save(tmp_path, class_names=names))
    with pytest.raises(ValueError, match=part):
        evaluate(predictor, source)


@pytest.mark.parametrize("names", [NAMES, ("0", "1", "2"), None])
def test_the_same_names_and_numbers_are_compared(source, tmp_path, names):
    predictor = open_predictor(save(tmp_path, class_names=names))
    assert evaluate(predictor, source).summary()["images"] == 9


def test_another_number_of_classes(source, tmp_path):
    predictor = open_predictor(save(tmp_path, num_classes=4))
    with pytest.raises(ValueError, match="with 4, .* with 3"):
        evaluate(predictor, source)


def test_unequal_sides_are_evaluated_as_they_are(source, tmp_path):
    size = (64, 48)
    model = build_tiny(class_names=NAMES, preprocessing={"short_side": 36, "crop_size": 32})
    report = export_tflite(
        model, tmp_path / "model.tflite", size, images=generated_images(*size, count=2)
    )
    assert report["preprocessing"]["short_side"] == 54
    predictor = open_predictor(tmp_path / "model.tflite")
    assert predictor.size == size
    assert predictor.preprocessing == Preprocessing(54, 48)
    assert evaluate(predictor, source).summary()["images"] == 9
    for wrong in (48, 64):
        with pytest.raises(ValueError, match="one size, here 64x48"):
            open_predictor(tmp_path / "model.tflite", wrong)
    # Earlier versions wrote the larger side.
    path = tmp_path / "model.report.json"
    old = {**json.loads(path.read_text("utf-8")), "preprocessing": {"short_side": 72}}
    old["preprocessing"] |= {"crop_size": 64, "interpolation": "bilinear"}
    path.write_text(json.dumps(old), "utf-8")
    again = open_predictor(tmp_path / "model.tflite")
    assert dataclasses.asdict(again.preprocessing) == dataclasses.asdict(predictor.preprocessing)


def test_top_k_counts_the_k_most_probable():
    probabilities = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.25] * 4])
    evaluation = Evaluation(probabilities, np.array([1, 1, 1]), 1.0)
    shares = [evaluation.top(k) for k in (1, 2, 3, 4)]
    # A tie goes to the lower class.
    assert shares == pytest.approx([0.0, 2 / 3, 1.0, 1.0])
    many = np.tile(np.linspace(0.0, 1.0, 8), (8, 1))
    assert Evaluation(many, np.arange(8), 1.0).summary()["top5"] == pytest.approx(5 / 8)
