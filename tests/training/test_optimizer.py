import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers.batch_norm import BatchNorm
from mobilevit_keras.models import freeze
from mobilevit_keras.tasks import Segmentation
from mobilevit_keras.training.optimizer import (
    AdamW,
    LossScaleOptimizer,
    paper_optimizer,
    warmup_cosine,
)
from mobilevit_keras.training.recipe import Recipe
from mobilevit_keras.training.run import compile_for
from tests.tiny import build_tiny, build_tiny_detector, build_tiny_segmenter


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
    """Keras's AdamW and ours, on one schedule and the same gradients, end in the same weights.

    But for epsilon, which stands elsewhere, and for the schedule of accumulated gradients, which
    Keras reads at the batches.
    """
    start = {"kernel": rng.standard_normal((5, 7)), "bias": rng.standard_normal(7)}
    gradients = [{k: rng.standard_normal(v.shape) for k, v in start.items()} for _ in range(8)]
    schedule = warmup_cosine(0.01, 0.02, 0.001, 2, 8)
    rate = 0.01 if "gradient_accumulation_steps" in options else schedule
    kerass, ours = (
        run_updates(optimizer(rate, epsilon=1e-12, **options), start, gradients)
        for optimizer in (keras.optimizers.AdamW, AdamW)
    )
    for a, b in zip(kerass, ours, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=2e-6)


def test_weight_decay_shrinks_a_weight_without_gradient():
    variable = keras.Variable(np.array([2.0, -4.0], "float32"))
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.apply([keras.ops.zeros(2)], [variable])
    np.testing.assert_allclose(variable, [2.0 * 0.95, -4.0 * 0.95], rtol=1e-6)


@pytest.mark.slow
def test_loss_scaling_of_mixed_precision_trains(rng):
    model = build_tiny(dtype="mixed_float16")
    before = model.get_weights()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.LossScaleOptimizer(AdamW(0.01)), loss)
    history = model.fit(rng.random((4, 32, 32, 3), "float32"), np.arange(4) % 3, verbose=0)
    assert math.isfinite(history.history["loss"][0])
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


class TestAgainstPyTorch:
    """60 batches in PyTorch 2.14, double precision, stored: weights and batch-norm statistics.

    The logits are a millionth of the model's outputs, so that epsilon is as large as the gradients:
    where it stands decides the weights. PyTorch's own float32 run lies within 1e-6 of the stored
    one.
    """

    STORED = Path(__file__).parent / "data" / "pytorch_adamw.npz"
    LOSS_SCALE = 1e-6
    TOLERANCE = 5e-6

    def model(self, start: dict, optimizer) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(4, 3, use_bias=False),
                BatchNorm(momentum=0.9, epsilon=1e-3),
                keras.layers.ReLU(),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3),
            ]
        )
        conv, norm, _, _, dense = model.layers
        conv.kernel.assign(start["conv"])
        norm.gamma.assign(start["gamma"])
        norm.beta.assign(start["beta"])
        dense.kernel.assign(start["dense"])
        dense.bias.assign(start["bias"])

        def loss(labels, outputs):
            return keras.losses.sparse_categorical_crossentropy(
                labels, outputs * self.LOSS_SCALE, from_logits=True
            )

        model.compile(optimizer, loss)
        return model

    def weights(self, model: keras.Model) -> list[np.ndarray]:
        conv, norm, _, _, dense = model.layers
        variables = [conv.kernel, norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance]
        return [v.numpy() for v in (*variables, dense.kernel, dense.bias)]

    @pytest.mark.parametrize("accumulation", [1, 2])
    def test_sixty_batches(self, accumulation):
        rng = np.random.default_rng(0)
        images = rng.random((60, 6, 8, 8, 3), "float32")
        labels = rng.integers(0, 3, (60, 6))
        with np.load(self.STORED) as file:
            stored = dict(file)
        start = {k.removeprefix("start/"): v for k, v in stored.items() if k.startswith("start/")}
        model = self.model(start, paper_optimizer(60, gradient_accumulation=accumulation))
        for step in range(60):
            model.train_on_batch(images[step], labels[step])
            if step + 1 in (20, 40, 60):
                for index, found in enumerate(self.weights(model)):
                    expected = stored[f"accumulation{accumulation}/step{step + 1}/{index}"]
                    np.testing.assert_allclose(found, expected, rtol=0, atol=self.TOLERANCE)


def test_accumulation_asks_the_schedule_for_the_update():
    """Four batches an update: the kernel's steps are those of updates 0, 1 and 2."""
    optimizer = AdamW(warmup_cosine(0.1, 1.0, 0.1, 2, 10), gradient_accumulation_steps=4)
    assert [float(optimizer.learning_rate)] == pytest.approx([0.1])
    variable = keras.Variable(np.zeros(1, "float32"))
    rates = []
    for _ in range(12):
        optimizer.apply([keras.ops.ones(1)], [variable])
        rates.append(float(optimizer.learning_rate))
    assert rates[3:12:4] == pytest.approx([0.55, 1.0, rates[11]]) and rates[2] == pytest.approx(0.1)


def test_the_papers_optimizer():
    """Its schedule is in updates, and a short training has a short warm-up."""
    long, short = (paper_optimizer(steps)._learning_rate.get_config() for steps in (100_000, 500))
    assert (long["warmup_steps"], long["decay_steps"]) == (3000, 97_000)
    assert (short["warmup_steps"], short["decay_steps"]) == (50, 450)
    accumulated = paper_optimizer(500, gradient_accumulation=4)
    assert accumulated._learning_rate.get_config()["decay_steps"] == 125 - 12
    assert accumulated.gradient_accumulation_steps == 4
    with pytest.raises(ValueError, match="Received: total_steps=0"):
        paper_optimizer(0)


def test_norms_and_biases_need_not_decay():
    kernel, bias = (keras.Variable(np.ones(shape, "float32")) for shape in ((2, 2), (2,)))
    optimizer = AdamW(0.1, weight_decay=0.5, decay_norms_and_biases=False)
    optimizer.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)], [kernel, bias])
    np.testing.assert_allclose(kernel, np.full((2, 2), 0.95), rtol=1e-6)
    np.testing.assert_array_equal(bias, np.ones(2))
    assert AdamW.from_config(optimizer.get_config()).decay_norms_and_biases is False


class TestFactorsOfTheRate:
    """Two variables, one of which learns ten times as fast, against AdamW written out."""

    FACTORS = {"head": 10.0}

    def variables(self):
        start = {"backbone": [0.5, -1.0, 2.0], "head": [1.0, 0.25, -0.5]}
        return [keras.Variable(np.array(v, "float32"), name=name) for name, v in start.items()]

    def expected(self, gradients, rate, decay, accumulation=1):
        """PyTorch's AdamW with two groups of parameters, in double precision."""
        weights = [np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.25, -0.5])]
        first, second = ([np.zeros(3), np.zeros(3)] for _ in range(2))
        updates = [
            [np.mean([batch[i] for batch in gradients[s : s + accumulation]], 0) for i in (0, 1)]
            for s in range(0, len(gradients), accumulation)
        ]
        for step, update in enumerate(updates, start=1):
            for i, factor in enumerate((1.0, 10.0)):
                lr = factor * rate(step - 1)
                weights[i] = weights[i] * (1.0 - lr * decay)
                first[i] = 0.9 * first[i] + 0.1 * update[i]
                second[i] = 0.999 * second[i] + 0.001 * update[i] ** 2
                moment = first[i] / (1.0 - 0.9**step)
                root = np.sqrt(second[i] / (1.0 - 0.999**step))
                weights[i] = weights[i] - lr * moment / (root + 1e-8)
        return weights

    @pytest.mark.parametrize("accumulation", [1, 2])
    def test_steps_and_decay(self, rng, accumulation):
        gradients = rng.normal(size=(12, 2, 3)).astype("float32")
        optimizer = paper_optimizer(
            12,
            initial_learning_rate=0.001,
            peak_learning_rate=0.01,
            warmup_steps=1,
            weight_decay=0.5,
            gradient_accumulation=accumulation,
            learning_rate_factors=self.FACTORS,
        )
        variables = self.variables()
        optimizer.build(variables)
        update = tf.function(lambda values: optimizer.apply(values, variables))
        for step in gradients:
            update([tf.constant(value) for value in step])
        schedule = warmup_cosine(
            0.001,
            0.01,
            Recipe.final_learning_rate,
            min(1, 12 // accumulation // 10),
            12 // accumulation,
        )
        expected = self.expected(gradients, lambda s: float(schedule(s)), 0.5, accumulation)
        for found, value in zip(variables, expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=0, atol=1e-5)

    def test_other_ways_of_updating(self, rng):
        """`amsgrad` takes Keras's own update; the factor is there too."""
        (gradient,) = rng.normal(size=(1, 3)).astype("float32")
        moved = []
        for factors in (None, self.FACTORS):
            optimizer = AdamW(0.01, weight_decay=0.0, amsgrad=True, learning_rate_factors=factors)
            variables = self.variables()
            before = [variable.numpy() for variable in variables]
            optimizer.apply([tf.constant(gradient)] * 2, variables)
            moved.append([v.numpy() - b for v, b in zip(variables, before, strict=True)])
        np.testing.assert_allclose(moved[1][0], moved[0][0], rtol=1e-6)
        np.testing.assert_allclose(moved[1][1], 10.0 * moved[0][1], rtol=1e-4)

    def test_are_part_of_the_configuration(self):
        optimizer = AdamW(0.1, learning_rate_factors={"head/": 10.0, "head/classifier/": 2.0})
        twin = AdamW.from_config(optimizer.get_config())
        variables = [keras.Variable(0.0, name=name) for name in ("a", "b", "c")]
        paths = ("stage1/kernel", "head/aspp/kernel", "head/classifier/kernel")
        for variable, path in zip(variables, paths, strict=True):
            variable._path = path
        twin.build(variables)
        assert [twin.factor(variable) for variable in variables] == [1.0, 10.0, 2.0]
        assert AdamW(0.1).get_config()["learning_rate_factors"] is None

    def test_mistakes(self):
        for factor in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="must be positive"):
                AdamW(0.1, learning_rate_factors={"head": factor})
        with pytest.raises(ValueError, match="Received: 'heads'; the paths are backbone, head"):
            AdamW(0.1, learning_rate_factors={"heads": 2.0}).build(self.variables())

    @pytest.mark.parametrize("build", [build_tiny, build_tiny_segmenter, build_tiny_detector])
    def test_the_head_is_what_the_task_puts_on_the_backbone(self, build):
        model = build()
        of_backbone = len(model.backbone.trainable_variables)
        optimizer = Recipe(head_learning_rate_factor=10.0).optimizer(100, model)
        optimizer.build(model.trainable_variables)
        factors = [optimizer.factor(variable) for variable in model.trainable_variables]
        assert factors.count(1.0) == of_backbone and factors.count(10.0) > 1
        assert set(factors) == {1.0, 10.0}
        for variable, factor in zip(model.trainable_variables, factors, strict=True):
            assert (factor == 1.0) == variable.path.startswith(("stem", "stage"))

    def test_a_run_has_it(self):
        model = build_tiny_segmenter()
        compile_for(Segmentation(), model, Recipe(head_learning_rate_factor=7.0), 10)
        model.optimizer.build(model.trainable_variables)
        assert model.optimizer.factor(model.head.classifier.kernel) == 7.0
        assert model.optimizer.factor(model.backbone.trainable_variables[0]) == 1.0

    def test_a_frozen_backbone_leaves_the_head(self):
        model = build_tiny_segmenter()
        freeze(model, "backbone")
        optimizer = LossScaleOptimizer(Recipe(head_learning_rate_factor=3.0).optimizer(100, model))
        optimizer.build(model.trainable_variables)
        factors = {optimizer.inner_optimizer.factor(v) for v in model.trainable_variables}
        assert factors == {3.0}
