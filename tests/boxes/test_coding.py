import numpy as np

from mobilevit_keras.boxes import decode_boxes, encode_boxes, to_pixels


def test_encoding_by_the_formula(rng):
    corner, sides = rng.uniform(0, 0.6, (3, 7, 2)), rng.uniform(0.05, 0.4, (3, 7, 2))
    boxes = np.concatenate([corner, corner + sides], -1)
    anchors = rng.uniform(0.1, 0.9, (7, 4))
    middle = (corner + sides / 2 - anchors[:, :2]) / anchors[:, 2:] / 0.1
    expected = np.concatenate([middle, np.log(sides / anchors[:, 2:]) / 0.2], -1)
    encoded = encode_boxes(boxes.astype("float32"), anchors.astype("float32"))
    np.testing.assert_allclose(encoded, expected, atol=1e-4)
    np.testing.assert_allclose(decode_boxes(encoded, anchors.astype("float32")), boxes, atol=1e-5)


def test_a_box_of_no_size_is_finite():
    anchors = np.array([[0.5, 0.5, 0.1, 0.1]], "float32")
    assert np.isfinite(encode_boxes(np.full((1, 4), 0.5, "float32"), anchors)).all()


def test_pixels_are_cut_at_the_edges():
    boxes = np.array([[0.1, 0.25, 0.5, 1.5], [-0.5, -0.1, 0.0, 0.5]])
    expected = [[4, 5, 20, 20], [0, 0, 0, 10]]
    np.testing.assert_allclose(to_pixels(boxes, 20, 40), expected, rtol=1e-6)
