"""The colours of classes, by the table that the device script and the browser read as well."""

import json
from pathlib import Path

import numpy as np

from convert.device import predict
from mobilevit_keras.palette import class_colours, heat_colours, heat_overlay, overlay

TABLE = json.loads((Path(__file__).parent / "data/palette_cases.json").read_text("utf-8"))


def test_colours_of_the_table_that_all_of_them_read():
    assert len(TABLE["colours"]) > 10
    for colours in (class_colours(), predict.palette(256)):
        for number, colour in TABLE["colours"].items():
            assert colours[int(number)].tolist() == colour


def test_an_overlay_mixes_colours_by_their_share():
    image = np.full((1, 2, 3), 100, np.uint8)
    mask = np.array([[0, 1]])
    np.testing.assert_array_equal(overlay(image, mask), [[[50, 50, 50], [114, 50, 50]]])
    np.testing.assert_array_equal(overlay(image, mask, 0.0), image)


def test_heat_is_mixed_by_how_much_of_it_there_is():
    for number, colour in TABLE["heat"].items():
        assert heat_colours()[int(number)].tolist() == colour
    image = np.full((1, 4, 3), 100, np.uint8)
    heat = np.array([[0.0, 1.0, 0.4, np.nan]])
    # Nothing, 70% of yellow, 28% of (255, 102, 0); dark where nothing is known.
    expected = [[[100, 100, 100], [208, 208, 30], [143, 101, 72], [40, 40, 40]]]
    np.testing.assert_allclose(heat_overlay(image, heat), expected, atol=1)
