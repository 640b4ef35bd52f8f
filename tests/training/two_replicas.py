"""Trainings on two devices of the processor and without distribution, as a process of its own.

python -m tests.training.two_replicas PART FILE.npz

Writes what `test_distribution` compares: the devices of a process cannot be cut once it has begun.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contextlib

import keras
import numpy as np
import tensorflow as tf

from mobilevit_keras.layers.batch_norm import BatchNorm
from mobilevit_keras.metrics import MultiBoxLoss, PixelCrossEntropy
from mobilevit_keras.models.steps import train_step_on
from mobilevit_keras.training.distribution import mend_fit
from mobilevit_keras.training.optimizer import AdamW, LossScaleOptimizer
from tests.training.distributed_run import split_processor

STEPS, BATCH = 4, 8


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (rng.random((BATCH, 6, 6, 3), "float32"), rng.integers(0, 3, BATCH)) for _ in range(STEPS)
    ]


def network(*norms_and_dropouts: keras.Layer, dtype: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, dtype=dtype), *norms_and_dropouts]
    layers += [keras.layers.GlobalAveragePooling2D(dtype=dtype), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 3)), *layers])


class Functional(keras.Model):
    """Steps as the package's models do: nothing decays where there is no batch."""

    def train_step(self, *arguments):
        return train_step_on(super().train_step, *arguments)


def compiled(strategy, build, optimizer, loss=None) -> keras.Model:
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        model = build()
        model.compile(optimizer(), loss or keras.losses.SparseCategoricalCrossentropy(True))
    return model


def fit(strategy, model, data) -> keras.Model:
    """One epoch of `fit`, each batch cut into the replicas' parts."""
    images, labels = (np.concatenate(part) for part in zip(*data, strict=True))
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    if strategy is None:
        dataset = dataset.batch(BATCH)
    else:
        spec = (tf.TensorSpec((None, 6, 6, 3)), tf.TensorSpec((None, *labels.shape[1:]), tf.int64))
        mend_fit(model, strategy, spec)
        halves = dataset.batch(BATCH // strategy.num_replicas_in_sync)
        dataset = strategy.distribute_datasets_from_function(lambda _: halves)
    model.fit(dataset, epochs=1, verbose=0)
    return model


def with_norm() -> keras.Model:
    return network(BatchNorm(), keras.layers.ReLU())


def with_dropout() -> keras.Model:
    return network(keras.layers.ReLU(), keras.layers.Dropout(0.5, seed=3))


def norms(strategy) -> dict[str, list[np.ndarray]]:
    """Batch norms over the whole batch, under SGD: the weights of one device."""
    return {
        name: fit(s, compiled(s, with_norm, lambda: keras.optimizers.SGD(0.5)), batches()).weights
        for name, s in (("expected", None), ("found", strategy))
    }


def dropout(strategy) -> dict[str, list[np.ndarray]]:
    """With dropout, under SGD: the mean of the gradients of two halves, by hand."""
    found = fit(
        strategy, compiled(strategy, with_dropout, lambda: keras.optimizers.SGD(0.5)), batches()
    )
    model = with_dropout()
    seed = model.layers[2].seed_generator.state
    loss = keras.losses.SparseCategoricalCrossentropy(True)
    for images, labels in batches():
        gradients, before = [], seed.numpy()
        for half in (slice(0, BATCH // 2), slice(BATCH // 2, BATCH)):
            # Every replica draws from its own copy of the state, which are equal.
            seed.assign(before)
            with tf.GradientTape() as tape:
                value = loss(labels[half], model(images[half], training=True))
            gradients.append(tape.gradient(value, [w.value for w in model.trainable_weights]))
        for weight, *parts in zip(model.trainable_weights, *gradients, strict=True):
            weight.assign_sub(0.5 * (parts[0] + parts[1]) / 2)
    return {"expected": model.weights, "found": found.weights}


def overflow(strategy) -> dict[str, list[np.ndarray]]:
    """float16 with images that overflow on the second replica alone, then finite ones."""

    def build():
        return network(keras.layers.ReLU(), dtype="mixed_float16")

    def optimizer():
        return LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=2.0**10)

    images, labels = batches()[0]
    images = images.copy()
    images[BATCH // 2 :] *= 200.0
    model = fit(strategy, compiled(strategy, build, optimizer), [(images, labels)])
    return {
        "before": build().weights,
        "found": model.weights,
        "scale": [model.optimizer.dynamic_scale],
    }


def masks(strategy) -> dict[str, list[np.ndarray]]:
    """Pixels without a class on the first replica, and classes that weigh differently.

    The classifier learns ten times as fast as what comes before it, by AdamW.
    """

    def build():
        keras.utils.set_random_seed(0)
        images = keras.Input((6, 6, 3))
        x = keras.layers.Conv2D(4, 3, padding="same", name="backbone")(images)
        return Functional(images, keras.layers.Conv2D(3, 1, name="head")(x))

    def optimizer():
        # An epsilon beside which gradients are small, so that their size counts.
        return AdamW(0.05, weight_decay=0.1, epsilon=1.0, learning_rate_factors={"head/": 10.0})

    rng = np.random.default_rng(1)
    data = []
    for images, _ in batches():
        labels = rng.integers(0, 3, (BATCH, 6, 6))
        labels[: BATCH // 2, 1:] = 255
        data.append((images, labels))
    return {
        name: fit(
            s, compiled(s, build, optimizer, PixelCrossEntropy((1.0, 0.2, 5.0))), data
        ).weights
        for name, s in (("expected", None), ("found", strategy))
    }


class BoxesOfCells(MultiBoxLoss):
    """Each cell is an anchor, whose box is its first four logits."""

    def call(self, y_true, y_pred):
        y_pred = keras.ops.reshape(y_pred, (-1, 36, 5))
        boxes = y_pred[..., :4]
        targets = {"logits": keras.ops.reshape(y_true, (-1, 36)), "boxes": boxes * 0.0}
        return super().call(targets, {"logits": y_pred, "boxes": boxes})


def boxes(strategy) -> dict[str, list[np.ndarray]]:
    """Many boxes on the first replica, few on the second, none on either in a step."""

    def build():
        keras.utils.set_random_seed(0)
        images = keras.Input((6, 6, 3))
        x = keras.layers.Conv2D(4, 3, padding="same")(images)
        return Functional(images, keras.layers.Conv2D(5, 1)(x))

    rng = np.random.default_rng(1)
    data = []
    for step, (images, _) in enumerate(batches()):
        shares = np.where(np.arange(BATCH) < BATCH // 2, 0.5, 0.02) * (step != 1)
        is_box = rng.random((BATCH, 6, 6)) < shares[:, None, None]
        data.append((images, np.where(is_box, rng.integers(1, 5, is_box.shape), 0)))
    return {
        name: fit(
            s, compiled(s, build, lambda: keras.optimizers.SGD(0.1), BoxesOfCells()), data
        ).weights
        for name, s in (("expected", None), ("found", strategy))
    }


if __name__ == "__main__":
    split_processor()
    part, path = sys.argv[1:]
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    results = globals()[part](tf.distribute.MirroredStrategy(devices))
    np.savez(
        path,
        **{
            f"{name}/{index}": np.asarray(weight)
            for name, weights in results.items()
            for index, weight in enumerate(weights)
        },
    )
