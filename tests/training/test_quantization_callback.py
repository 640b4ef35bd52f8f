import keras
import numpy as np
import pytest

from mobilevit_keras.layers.fake_quant import ActivationQuantizer
from mobilevit_keras.tasks import Classification
from mobilevit_keras.training.distillation import distill_from
from mobilevit_keras.training.quantization_callback import FreezeRanges


def small_model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), ActivationQuantizer()])


def fit(model, callback, batches):
    model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(True))
    values = np.random.default_rng(0).normal(size=(batches, 4))
    model.fit(values, np.eye(3)[np.arange(batches) % 3], 1, verbose=0, callbacks=[callback])


@pytest.mark.parametrize("batches, frozen", [(3, 0), (4, 1), (6, 1)])
def test_ranges_freeze_after_the_steps(batches, frozen):
    model = small_model()
    fit(model, FreezeRanges(4), batches)
    assert int(model.layers[-1].frozen) == frozen


def test_refusals():
    with pytest.raises(ValueError, match="must not be negative"):
        FreezeRanges(-1)
    with pytest.raises(ValueError, match="quantization-aware model only"):
        fit(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), FreezeRanges(1), 2)
    with pytest.raises(ValueError, match="`weight` must be from 0 to 1"):
        distill_from(None, None, None, weight=2.0)


def test_distillation_pulls_toward_the_teacher():
    keras.utils.set_random_seed(0)
    teacher, model = (
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)
    )
    values = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    labels = np.full((64, 3), 1 / 3)
    model.compile(keras.optimizers.Adam(0.05), keras.losses.CategoricalCrossentropy(True))
    distill_from(Classification(), teacher, model, weight=1.0, temperature=2.0)
    model.fit(values, labels, epochs=40, verbose=0)
    answers, targets = (keras.ops.softmax(m(values)) for m in (model, teacher))
    np.testing.assert_allclose(answers, targets, atol=0.02)
    # Evaluation's loss is that of the labels alone.
    expected = -np.mean(np.log(answers))
    assert model.evaluate(values, labels, verbose=0) == pytest.approx(expected, rel=1e-4)
