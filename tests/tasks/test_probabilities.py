"""Whether a wrong file is found out, however unsure the model."""

import numpy as np
import pytest

from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.tasks import CheckError, get_task
from mobilevit_keras.tasks.logit_comparison import BOUNDS
from mobilevit_keras.tasks.probabilities import ProbabilityComparison, logarithms
from tests.export.wrong_files import wrong_answers
from tests.tiny import build_tiny, coloured_images, tell_images_apart

IMAGES = coloured_images(8, 64, seed=1)
TASK = get_task("classification")


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module", params=[(3, 1.0), (1000, 0.05)], ids=["3", "1000-unsure"])
def run(request):
    """Keras's answers, of a model of 1000 classes that is never sure of any too."""
    num_classes, logits = request.param
    model = tell_images_apart(build_tiny(num_classes), logits)
    return lambda images: keras_outputs(model, TASK, images)["probabilities"]


@pytest.fixture(scope="module")
def wrong(run):
    return dict(wrong_answers(run, IMAGES))


@pytest.mark.parametrize("key", BOUNDS, ids="-".join)
def test_every_wrong_file_is_found_out_in_every_precision(run, wrong, key):
    expected = run(IMAGES)
    # As much as the precision rounds: half of what it may.
    generator = np.random.default_rng(0)
    noise = generator.normal(size=expected.shape) * np.log(expected).std(axis=0).mean()
    honest = softmax(np.log(expected) + 0.5 * BOUNDS[key].difference * noise)
    assert ProbabilityComparison(expected, honest).problem(*key) is None
    for name, answers in wrong.items():
        comparison = ProbabilityComparison(expected, answers.astype(np.float32))
        assert comparison.problem(*key) is not None, name
        with pytest.raises(CheckError):
            comparison.check(*key)


def test_the_problem_says_what_is_wrong(run, wrong):
    expected = run(IMAGES)
    for name, part in (
        ("constant", "It gives one answer to all of 8"),
        ("two classes exchanged", "answers must agree"),
        ("not a number", "NaN or infinity"),
    ):
        problem = ProbabilityComparison(expected, wrong[name]).problem("tflite", "int8")
        assert part in problem


def test_keras_answers_that_do_not_differ_prove_nothing():
    logits = np.array([[1.0, 2.0, 3.0]]).repeat(8, axis=0)
    logits += np.random.default_rng(0).normal(0.0, 1e-6, logits.shape)
    for expected in (softmax(logits), softmax(logits)[:1]):
        problem = ProbabilityComparison(expected, expected).problem("tflite", "float32")
        assert "Keras's answers must differ between the images" in problem


def test_another_best_class_counts_where_the_lead_is_clear():
    logits = np.random.default_rng(0).normal(size=(400, 10))
    logits[:, 3] += 3.0
    logits[::2, 4] = logits[::2, 3] - 0.01
    expected = softmax(logits)
    tied = logits.copy()
    tied[::2, 4] += 0.02
    comparison = ProbabilityComparison(expected, softmax(tied))
    assert comparison.top1_agreement < 0.6
    assert comparison.problem("tflite", "int8") is None
    # One image of many hardly moves the mean of the differences.
    other = logits.copy()
    clear = int(np.argmax(np.diff(np.sort(logits), axis=1)[:, -1]))
    order = np.argsort(logits[clear])
    other[clear, order[[-1, -2]]] = logits[clear, order[[-2, -1]]]
    comparison = ProbabilityComparison(expected, softmax(other))
    assert comparison.relative_difference < 0.2
    problem = comparison.problem("tflite", "int8")
    assert problem is not None and "best class where that leads clearly" in problem
    assert comparison.as_json()["clear_images"] > 10


def test_answers_of_int8_softmax_are_compared_on_its_grid():
    logits = np.random.default_rng(0).normal(0.0, 4.0, size=(32, 10))
    expected = softmax(logits)
    on_grid = np.rint(expected * 256.0).clip(0, 255) / 256.0
    assert (on_grid == 0).mean() > 0.3
    assert ProbabilityComparison(expected, on_grid).problem("tflite", "int8_full") is None


def test_the_step_of_a_file_is_found():
    values = np.arange(1, 200) * np.float32(0.0037)
    expected, actual = logarithms(values, np.append(values[1:], values[0]))
    np.testing.assert_allclose(np.exp(expected).min(), 0.0037, rtol=1e-5)
    _, zero = logarithms(values, values - values[0])
    np.testing.assert_allclose(np.exp(zero[0]), 0.5 * 0.0037, rtol=1e-5)
    # Two values alone lie on any grid.
    _, few = logarithms(np.ones(2), np.array([0.0, 0.3]))
    assert np.exp(few[0]) < 1e-7


def test_what_a_report_holds():
    first = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    second = np.array([[0.5, 0.4, 0.1], [0.2, 0.5, 0.3]])
    report = ProbabilityComparison(first, second).as_json()
    assert report["images"] == report["differing_images"] == 2
    assert report["max_abs_difference"] == pytest.approx(0.2)
    assert report["top1_agreement"] == 0.5
    assert report["relative_difference"] > 0.1
    with pytest.raises(ValueError, match="one shape"):
        ProbabilityComparison(first, second[:, :2])
