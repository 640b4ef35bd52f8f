import json

import numpy as np
import pytest

from mobilevit_keras.boxes import BoxDecoding, decode_boxes, encode_boxes, file_order
from tests.tiny import build_tiny_detector

DECODING = BoxDecoding((64, 96), 0.1, 1.05)


def test_a_files_boxes_are_those_that_were_encoded(rng):
    corner = rng.uniform(0, 0.5, (2, 208, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.5, (2, 208, 2))], -1)
    encoded = encode_boxes(boxes, DECODING.anchors)
    location = np.asarray(file_order(encoded))
    np.testing.assert_array_equal(location, np.asarray(encoded)[..., [1, 0, 3, 2]])
    np.testing.assert_allclose(DECODING.boxes(location), boxes, atol=1e-5)
    by_keras = decode_boxes(encoded, DECODING.anchors)
    np.testing.assert_allclose(DECODING.boxes(location), by_keras, atol=1e-6)


def test_the_anchors_are_the_models():
    model = build_tiny_detector()
    np.testing.assert_array_equal(model.decoding(64, 96).anchors, model.anchors(64, 96))
    assert model.decoding(64, 96) == DECODING
    # Middles in tenths of the anchors' sides, logarithms of sides in fifths.
    assert DECODING.scales == (10.0, 10.0, 5.0, 5.0)


def test_it_comes_back_from_json():
    found = json.loads(json.dumps(DECODING.as_json()))
    assert BoxDecoding.from_json((64, 96), found) == DECODING
    assert found["num_anchors"] == 208
    for change in ({"clip": "corners"}, {"format": "xywh"}, {"min_scale": None}, {"more": 1}):
        with pytest.raises(ValueError, match="a rule that this version knows"):
            BoxDecoding.from_json((64, 96), found | change)
    with pytest.raises(ValueError, match="a rule that this version knows"):
        BoxDecoding.from_json((64, 96), {})
