"""Whether a file that finds its answer elsewhere is found out."""

import numpy as np
import pytest

from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.tasks import CheckError, Classification, Segmentation, get_task
from mobilevit_keras.tasks.heat_maps import HeatMapComparison
from mobilevit_keras.tasks.logit_comparison import BOUNDS
from tests.export.wrong_files import wrong_maps
from tests.tiny import build_tiny, coloured_images, tell_images_apart

IMAGES = coloured_images(8, 128, seed=1)
TASK = Classification().with_heat_map()


@pytest.fixture(scope="module")
def run():
    model = tell_images_apart(build_tiny(4))
    return lambda images: keras_outputs(model, TASK, images)


@pytest.fixture(scope="module")
def wrong(run):
    faults = dict(wrong_maps(lambda images: run(images)["heat_map"], IMAGES))
    # What softmax does not see, and a picture of one class does.
    return faults | {"a constant": run(IMAGES)["heat_map"] + 3.0}


@pytest.mark.parametrize("key", BOUNDS, ids="-".join)
def test_every_wrong_map_is_found_out_in_every_precision(run, wrong, key):
    expected = run(IMAGES)
    generator = np.random.default_rng(0)
    rounding = generator.normal(size=expected["heat_map"].shape)
    size = 0.5 * BOUNDS[key].difference * expected["heat_map"].std(axis=0).mean()
    honest = expected | {"heat_map": expected["heat_map"] + size * rounding}
    assert TASK.compare(expected, honest).problem(*key) is None
    for name, maps in wrong.items():
        comparison = TASK.compare(expected, expected | {"heat_map": maps.astype(np.float32)})
        assert comparison.problem(*key) is not None, name
        with pytest.raises(CheckError, match="Of the heat map: "):
            comparison.check(*key)


def test_wrong_probabilities_are_found_out_beside_right_maps(run):
    expected = run(IMAGES)
    answers = expected | {"probabilities": expected["probabilities"][:, ::-1]}
    problem = TASK.compare(expected, answers).problem("tflite", "float32")
    assert problem is not None and "heat map" not in problem


def test_what_a_report_holds(run):
    expected = run(IMAGES)
    comparison = TASK.compare(expected, expected | {"heat_map": 1.01 * expected["heat_map"]})
    assert comparison.as_json()["heat_map_relative_difference"] == pytest.approx(0.01, rel=1e-3)
    assert comparison.as_json()["top1_agreement"] == 1.0
    assert "heat maps off by 1% of what changes" in comparison.summary()
    with pytest.raises(ValueError, match="one shape"):
        HeatMapComparison(expected["heat_map"], expected["heat_map"][..., :2])


def test_the_outputs_of_a_file():
    model = build_tiny(3, class_names=("a", "b", "c"))
    first, second = TASK.file_outputs(model)
    assert (first.name, first.labels) == ("probabilities", ("a", "b", "c"))
    assert (second.name, second.labels) == ("heat_map", None)
    (only,) = Classification().file_outputs(model)
    assert only == first
    for task in (Segmentation(), get_task("detection")):
        with pytest.raises(ValueError, match="Only a classifier's file has a heat map. Received: "):
            task.with_heat_map()
