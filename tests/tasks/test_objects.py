"""Whether wrong boxes are found out, however they were converted."""

import numpy as np
import pytest

from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.tasks import task_of
from mobilevit_keras.tasks.logit_comparison import BOUNDS
from mobilevit_keras.tasks.objects import DetectionComparison, pair_boxes
from tests.export.wrong_files import wrong_detections
from tests.tiny import load_tiny_detector, object_images

SIZE = (64, 128)
IMAGES, _ = object_images(12, *SIZE, seed=1)


@pytest.fixture(scope="module")
def task():
    return task_of(load_tiny_detector()).for_size(load_tiny_detector(), SIZE)


@pytest.fixture(scope="module")
def run(task):
    model = load_tiny_detector()
    return lambda images: keras_outputs(model, task, images)


@pytest.fixture(scope="module")
def wrong(run):
    return dict(wrong_detections(run, IMAGES))


def rounded(outputs, size, seed=0):
    """Answers off by `size` of what the images change, as honest rounding is."""
    generator = np.random.default_rng(seed)
    location, score = outputs["location"], outputs["score"].astype("f8")
    logits = np.log(score) - np.log1p(-score)
    spread = logits.std(axis=(0, 1))
    noisy = logits + size * spread * generator.normal(size=score.shape)
    units = np.array([0.3, 0.3, 0.3, 0.3]) * location.std(axis=(0, 1))
    return {
        "location": (location + size * units * generator.normal(size=location.shape)).astype("f4"),
        "score": (1.0 / (1.0 + np.exp(-noisy))).astype("f4"),
    }


@pytest.mark.parametrize("key", BOUNDS, ids="-".join)
def test_every_wrong_file_is_found_out_in_every_precision(task, run, wrong, key):
    expected = run(IMAGES)
    honest = rounded(expected, 0.3 * BOUNDS[key].difference)
    assert task.compare(expected, honest).problem(*key) is None
    for name, answers in wrong.items():
        assert task.compare(expected, answers).problem(*key) is not None, name


def test_the_problem_says_what_is_wrong(task, run, wrong):
    expected = run(IMAGES)
    for name, part in (
        ("constant", "It gives one answer to all of 12"),
        ("two classes exchanged", "answers must agree"),
        ("not a number", "NaN or infinity"),
        ("no box", "NaN or infinity"),
        ("x and y exchanged", "those of number"),
    ):
        assert part in task.compare(expected, wrong[name]).problem("tflite", "int8"), name


def test_boxes_are_what_a_user_sees(task, run):
    """Boxes a little off, or one box missing, hardly move a mean over all anchors."""
    expected = run(IMAGES)
    same = task.compare(expected, expected)
    assert same.as_json()["clear_boxes"] > 15
    assert (same.box_agreement, same.mean_iou) == (1.0, pytest.approx(1.0))
    moved = expected | {"location": expected["location"] + np.float32(0.12)}
    comparison = task.compare(expected, moved)
    assert "must lie where they should" in comparison.pairs.problem(BOUNDS["tflite", "float32"])
    assert 0.9 < comparison.mean_iou < 0.995
    unsure = task.compare(expected, expected | {"score": 0.5 * expected["score"]})
    problem = unsure.pairs.problem(BOUNDS["tflite", "int8_full"])
    assert "must be as sure of its boxes" in problem
    lost = expected["score"].copy()
    for image in lost[:4]:
        image[image.max(axis=-1) > 0.1] *= 0.1
    comparison = task.compare(expected, expected | {"score": lost})
    assert comparison.box_agreement < 0.9
    problem = comparison.pairs.problem(BOUNDS["tflite", "int8_full"])
    assert "must find the boxes that are clearly there" in problem


def found(boxes, labels, scores):
    return {
        "boxes": np.array(boxes, "f4").reshape(-1, 4),
        "labels": np.array(labels, int),
        "scores": np.array(scores, "f4"),
    }


def test_pairs():
    ours = [
        found([[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]], [0, 1, 1], [0.9, 0.8, 0.2]),
        found([], [], []),
    ]
    theirs = [
        found([[0, 0, 1, 0.8], [2, 2, 3, 3], [4, 4, 5, 5]], [0, 0, 1], [0.7, 0.8, 0.5]),
        found([[0, 0, 1, 1]], [0], [0.6]),
    ]
    pairs = pair_boxes(ours, theirs)
    # Both ways: the first box, and the last, of which ours is unsure; one is of another class in
    # either, and the one of the second image is alone.
    assert (pairs.clear, pairs.alone) == (6, 3)
    np.testing.assert_allclose(sorted(pairs.overlaps), [0.8, 0.8, 1.0], atol=1e-6)
    np.testing.assert_allclose(sorted(pairs.score_differences), [0.2, 0.2, 0.3], atol=1e-6)
    nothing = pair_boxes(ours[1:], ours[1:])
    assert (nothing.agreement, nothing.mean_iou) == (1.0, None)
    assert nothing.problem(BOUNDS["tflite", "float32"]) is None


def test_a_single_class(task, run):
    """There is no mean of the classes to look at scores about."""
    expected = {name: values[..., :4] for name, values in run(IMAGES).items()}
    expected["score"] = expected["score"].max(axis=-1, keepdims=True)
    assert task.compare(expected, expected).problem("tflite", "float32") is None
    other = expected | {"score": 1.0 - expected["score"]}
    assert task.compare(expected, other).problem("tflite", "int8_full") is not None


def test_what_a_report_holds(task, run):
    expected = run(IMAGES)
    comparison = task.compare(expected, rounded(expected, 0.05))
    assert isinstance(comparison, DetectionComparison)
    report = comparison.as_json()
    assert report["images"] == report["differing_images"] == 12
    assert 0.8 < report["mean_iou"] < 1.0 and report["box_agreement"] > 0.9
    summary = comparison.summary()
    assert f"mean IoU {100 * report['mean_iou']:.1f}%" in summary and "on 12 images;" in summary
    with pytest.raises(ValueError, match="one shape"):
        task.compare(expected, expected | {"score": expected["score"][..., :2]})
    nothing = expected | {"score": 1e-3 * expected["score"]}
    assert "no boxes on 12 images" in task.compare(nothing, nothing).summary()
    assert task.compare(nothing, nothing).problem("tflite", "float32") is None
