import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.boxes import image_anchors, num_anchors, ssd_anchors

SIZES_320 = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def by_hand(sizes) -> np.ndarray:
    """The authors' loops."""
    scales = np.linspace(0.1, 1.05, 7)
    rows = []
    for level, (height, width) in enumerate(sizes):
        small, large = scales[level], np.sqrt(scales[level] * scales[level + 1])
        for y in range(height):
            for x in range(width):
                middle = [(x + 0.5) * (1.0 / width), (y + 0.5) * (1.0 / height)]
                rows += [[*middle, small, small], [*middle, large, large]]
                for ratio in (2,) if level == 5 else (2, 3):
                    root = np.sqrt(ratio)
                    rows.append([*middle, small * root, small / root])
                    rows.append([*middle, small / root, small * root])
    return np.clip(np.array(rows), 0, 1).astype("float32")


@pytest.mark.parametrize("sizes", [SIZES_320, [(14, 18), (7, 9), (4, 5), (2, 3), (1, 2), (1, 1)]])
def test_anchors_of_the_authors_loops(sizes):
    anchors = ssd_anchors(sizes)
    assert anchors.dtype == "float32"
    np.testing.assert_array_equal(anchors, by_hand(sizes))


def test_numbers_and_offsets_at_320_pixels():
    assert num_anchors() == (6, 6, 6, 6, 6, 4)
    counts = [h * w * n for (h, w), n in zip(SIZES_320, num_anchors(), strict=True)]
    assert np.cumsum([0, *counts]).tolist() == [0, 2400, 3000, 3150, 3204, 3228, 3232]
    assert ssd_anchors(SIZES_320).shape == (3232, 4)


def test_anchors_of_an_image():
    np.testing.assert_array_equal(image_anchors(320, 320), ssd_anchors(SIZES_320))
    sizes = [(14, 18), (7, 9), (4, 5), (2, 3), (1, 2), (1, 1)]
    np.testing.assert_array_equal(image_anchors(224, 288), ssd_anchors(sizes))
    # 13 x 36 cells of 8 pixels become 14 x 36, and those give 7 x 18: 8 x 18, then 4 x 10.
    sizes = [(8, 18), (4, 10), (2, 5), (1, 3), (1, 2), (1, 1)]
    np.testing.assert_array_equal(image_anchors(104, 288, multiples=(2, 2, 2)), ssd_anchors(sizes))


def test_one_trace_serves_all_sizes():
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((), "int32")] * 2)
    def run(height, width):
        traces.append(None)
        return ssd_anchors([(height, width), (1, 1)], aspect_ratios=((2, 3), (2,)))

    for height, width in ((3, 5), (20, 20)):
        expected = ssd_anchors([(height, width), (1, 1)], aspect_ratios=((2, 3), (2,)))
        np.testing.assert_array_equal(run(height, width), expected)
    assert len(traces) == 1


def test_other_scales():
    anchors = np.asarray(ssd_anchors([(1, 1)], 0.04, 0.09, aspect_ratios=[()]))
    np.testing.assert_allclose(anchors, [[0.5, 0.5, 0.04, 0.04], [0.5, 0.5, 0.06, 0.06]], rtol=1e-6)


def test_ratios_for_each_map():
    with pytest.raises(ValueError, match="for each map. Received: 6 for 1 maps"):
        ssd_anchors([(1, 1)])
