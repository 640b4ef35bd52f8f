import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.training.optimizer import AdamW, warmup_cosine
from tests.tiny import build_tiny


def test_the_papers_schedule_in_closed_form():
    schedule = warmup_cosine(0.0002, 0.002, 0.0002, 3000, 100_000)
    for step in (0, 1, 1500, 3000):
        expected = 0.0002 + (0.002 - 0.0002) * step / 3000
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
    for step in (3001, 50_000, 99_999, 100_000, 120_000):
        part = min(1.0, (step - 3000) / 97_000)
        expected = 0.0002 + (0.002 - 0.0002) * (1 + math.cos(math.pi * part)) / 2
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4)


def test_no_warm_up():
    assert float(warmup_cosine(0.1, 1.0, 0.0, 0, 10)(0)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0.1, 1.0, 0.1, 10, 10), "warmup_steps=10, total_steps=10"),
        ((0.1, 0.0, 0.1, 1, 10), "peak=0.0"),
        ((-0.1, 1.0, 0.1, 1, 10), "initial=-0.1"),
    ],
)
def test_bad_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        warmup_cosine(*arguments)


def run_updates(optimizer: keras.optimizers.Optimizer, start: dict, gradients: list) -> list:
    """Applies gradients one after another in a traced function; returns the weights."""
    variables = {
        name: keras.Variable(value, dtype="float32", name=name) for name, value in start.items()
    }
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(list(variables.values()))

    @tf.function
    def update(values):
        optimizer.apply(values)

    for step in gradients:
        update([tf.constant(value, "float32") for value in step.values()])
    return [variable.numpy() for variable in variables.values()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1, "global_clipnorm": 0.5},
        {"weight_decay": 0.0},
        {"gradient_accumulation_steps": 2},
        {"amsgrad": True},
    ],
)
def test_adamw_is_kerass_own_in_arithmetic(rng, options):
    """Keras's AdamW and ours, on one schedule and the same gradients, end in the same weights."""
    start = {"kernel": rng.standard_normal((5, 7)), "bias": rng.standard_normal(7)}
    gradients = [{k: rng.standard_normal(v.shape) for k, v in start.items()} for _ in range(8)]
    kerass, ours = (
        run_updates(optimizer(warmup_cosine(0.01, 0.02, 0.001, 2, 8), **options), start, gradients)
        for optimizer in (keras.optimizers.AdamW, AdamW)
    )
    for a, b in zip(kerass, ours, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=2e-6)


def test_weight_decay_shrinks_a_weight_without_gradient():
    variable = keras.Variable(np.array([2.0, -4.0], "float32"))
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.apply([keras.ops.zeros(2)], [variable])
    np.testing.assert_allclose(variable, [2.0 * 0.95, -4.0 * 0.95], rtol=1e-6)


def test_loss_scaling_of_mixed_precision_trains(rng):
    model = build_tiny(dtype="mixed_float16")
    before = model.get_weights()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.LossScaleOptimizer(AdamW(0.01)), loss)
    history = model.fit(rng.random((4, 32, 32, 3), "float32"), np.arange(4) % 3, verbose=0)
    assert math.isfinite(history.history["loss"][0])
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
