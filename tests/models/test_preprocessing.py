"""How an image becomes a model's input, and that it is kept with the weights."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data.geometry import RESIZES as KNOWN_TO_DATA
from mobilevit_keras.models.preprocessing import RESIZES, Preprocessing
from tests.tiny import build_tiny

STRETCHED = Preprocessing(crop_size=(40, 64), resize="stretch")


def test_one_fact_for_both_floors():
    assert RESIZES == KNOWN_TO_DATA


def test_what_says_nothing_of_it_is_cropped():
    assert Preprocessing(**{"short_side": 72, "crop_size": 64}).resize == "crop"


def test_stretching_knows_no_short_side():
    assert Preprocessing(crop_size=512, resize="stretch").short_side == 512
    assert STRETCHED.short_side == 40
    assert STRETCHED == dataclasses.replace(STRETCHED, short_side=7)


def test_sides():
    assert STRETCHED.sides == (40, 64)
    assert Preprocessing(72, 64).sides == (64, 64)
    assert Preprocessing(72, (64, 64)) == Preprocessing(72, 64)


def test_through_json():
    for each in (STRETCHED, Preprocessing(72, (64, 48), "bicubic")):
        assert Preprocessing(**json.loads(json.dumps(dataclasses.asdict(each)))) == each


def test_at_size():
    assert STRETCHED.at_size(96) == Preprocessing(crop_size=96, resize="stretch")
    assert STRETCHED.at_size((32, 48)).sides == (32, 48)
    assert Preprocessing(72, (64, 48)).at_size(96) == Preprocessing(144, 96)
    assert Preprocessing(72, 64).at_size((128, 96)) == Preprocessing(108, 96)


def test_a_model_keeps_it_and_prepares_images_by_it(tmp_path):
    model = build_tiny(preprocessing=STRETCHED)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.preprocessing == STRETCHED
    image = np.random.default_rng(0).integers(0, 256, (90, 50, 3), np.uint8)
    expected = tf.image.resize(image, (40, 64)) / 255
    np.testing.assert_allclose(again.preprocess(image), expected[None], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": "letterbox"}, "`resize` must be one of .* Received: 'letterbox'"),
        ({"crop_size": (1, 2, 3)}, r"a side or height and width. Received: \(1, 2, 3\)"),
        ({"crop_size": (300, 289)}, r"at most `short_side`. Received: crop_size=\(300, 289\)"),
        ({"crop_size": 0, "resize": "stretch"}, "must be positive"),
        ({"crop_size": (64, -1), "resize": "stretch"}, "must be positive"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**arguments)
