"""Whether a wrong map is found out, however unsure the model and however it was converted."""

import numpy as np
import pytest

from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.tasks import CheckError, get_task
from mobilevit_keras.tasks.logit_comparison import BOUNDS
from mobilevit_keras.tasks.pixels import PixelComparison
from tests.export.wrong_files import wrong_maps
from tests.tiny import load_tiny_segmenter, patched_images

IMAGES, _ = patched_images(8, 64, 96, seed=1)
TASK = get_task("segmentation")


@pytest.fixture(scope="module", params=[None, (21, 0.05)], ids=["3", "21-unsure"])
def run(request):
    """Keras's answers, of a model of 21 classes that is never sure of any too."""
    model = load_tiny_segmenter()
    mixture = np.eye(3)
    if request.param is not None:
        num_classes, size = request.param
        mixture = size * np.random.default_rng(0).normal(size=(3, num_classes))
    return lambda images: (keras_outputs(model, TASK, images)["segmentation"] @ mixture).astype(
        "f4"
    )


@pytest.fixture(scope="module")
def wrong(run):
    return dict(wrong_maps(run, IMAGES))


@pytest.mark.parametrize("key", BOUNDS, ids="-".join)
def test_every_wrong_file_is_found_out_in_every_precision(run, wrong, key):
    expected = run(IMAGES)
    # As much as the precision rounds: half of what it may.
    noise = np.random.default_rng(0).normal(size=expected.shape) * expected.std(axis=0).mean()
    honest = expected + 0.5 * BOUNDS[key].difference * noise
    assert PixelComparison(expected, honest).problem(*key) is None
    for name, answers in wrong.items():
        comparison = PixelComparison(expected, answers.astype(np.float32))
        assert comparison.problem(*key) is not None, name
        with pytest.raises(CheckError):
            comparison.check(*key)


def test_what_nobody_sees_is_no_difference(run):
    """A number added to all classes of a cell changes no probability and no choice."""
    expected = run(IMAGES)
    added = np.random.default_rng(0).normal(size=(*expected.shape[:3], 1)).astype("f4")
    comparison = PixelComparison(expected, expected + added)
    assert comparison.problem("tflite", "float32") is None
    assert comparison.pixel_agreement > 0.9999
    assert comparison.relative_difference < 1e-4


def test_the_problem_says_what_is_wrong(run, wrong):
    expected = run(IMAGES)
    for name, part in (
        ("constant", "It gives one answer to all of 8"),
        ("two classes exchanged", "answers must agree"),
        ("not a number", "NaN or infinity"),
    ):
        problem = PixelComparison(expected, wrong[name]).problem("tflite", "int8")
        assert part in problem


def smooth_maps(count=8, side=24, num_classes=4, seed=0):
    """Maps that change so slowly that a cell's move is less than int8 may be off."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = [np.ones_like(x), x, y, x * y, np.sin(3 * x), np.cos(3 * y)]
    parts = generator.normal(size=(count, num_classes, len(waves)))
    return np.einsum("nkw,whv->nhvk", parts, waves).astype("f4")


def test_a_map_one_cell_away_is_found_out_where_it_hardly_differs():
    expected = smooth_maps()
    moved = np.concatenate([expected[:, :1], expected[:, :-1]], axis=1)
    assert PixelComparison(expected, moved).relative_difference < 0.1
    noise = 0.01 * np.random.default_rng(0).normal(size=expected.shape).astype("f4")
    assert PixelComparison(expected, expected + noise).problem("tflite", "int8") is None
    problem = PixelComparison(expected, moved + noise).problem("tflite", "int8")
    assert "agree better once they are moved by -1 cells down and 0 to the right" in problem


def test_another_class_counts_where_the_lead_is_clear():
    generator = np.random.default_rng(0)
    expected = generator.normal(size=(8, 12, 12, 10)).astype("f4")
    expected[..., 3] += 3.0
    expected[:, :6, :, 4] = expected[:, :6, :, 3] - 0.01
    tied = expected.copy()
    tied[:, :6, :, 4] += 0.02
    comparison = PixelComparison(expected, tied)
    assert comparison.pixel_agreement < 0.8
    assert comparison.problem("tflite", "int8") is None
    # A few clear cells exchanged hardly move the mean of the differences.
    other = expected.copy()
    other[:, 5:7, :, [3, 7]] = expected[:, 5:7, :, [7, 3]]
    comparison = PixelComparison(expected, other)
    assert comparison.problem("tflite", "int8") is not None


def test_a_model_without_classes_to_choose_from_and_without_a_neighbour():
    """One class and one cell: nothing is clear and nothing lies elsewhere."""
    expected = np.random.default_rng(0).normal(size=(4, 1, 1, 2)).astype("f4")
    assert PixelComparison(expected, expected).problem("tflite", "float32") is None
    problem = PixelComparison(expected[..., :1], expected[..., :1]).problem("tflite", "float32")
    assert "Keras's answers must differ between the images" in problem


def test_keras_answers_that_do_not_differ_prove_nothing():
    expected = smooth_maps(1).repeat(8, axis=0)
    expected += np.random.default_rng(0).normal(0.0, 1e-6, expected.shape)
    for maps in (expected, expected[:1]):
        problem = PixelComparison(maps, maps).problem("tflite", "float32")
        assert "Keras's answers must differ between the images" in problem


def test_what_a_report_holds():
    first = np.zeros((2, 2, 2, 3), "f4")
    first[..., 0] = 1.0
    first[1, 0, 0, 2] = 9.0
    second = first.copy()
    second[0, :, 1] = [0.0, 5.0, 0.0]
    comparison = PixelComparison(first, second)
    report = comparison.as_json()
    assert report["images"] == 2
    assert report["max_abs_difference"] == pytest.approx(5.0 * 2 / 3 + 1 / 3)
    assert 0.5 < report["pixel_agreement"] < 0.75
    assert report["mean_iou"] < 0.7
    assert report["relative_difference"] > 0.1
    assert f"same class on {100 * report['pixel_agreement']:.2f}% of the" in comparison.summary()
    assert "on 2 images" in comparison.summary()
    with pytest.raises(ValueError, match="one shape"):
        PixelComparison(first, second[..., :2])
