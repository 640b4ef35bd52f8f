"""What Keras does with our datasets, and when: `fit` and `evaluate` with nothing around them."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data import EvaluationDataset, MultiScaleDataset
from mobilevit_keras.data.targets import KINDS, TargetKind
from tests.data.images import NumberedImages

ARGUMENTS = {"sizes": (32, 48), "base_size": 32, "batch_size": 16, "seed": 7}


@pytest.fixture(scope="module")
def source():
    return NumberedImages(100)


class Sizes(keras.callbacks.Callback):
    """Keeps each epoch's sizes of batches, in pixels."""

    def __init__(self):
        super().__init__()
        self.epochs = []
        # Two, because the first step makes variables.
        self.traces_of_first_step = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append([])

    def on_train_batch_end(self, batch, logs=None):
        if self.traces_of_first_step is None:
            self.traces_of_first_step = self.model.traces
        self.epochs[-1].append(int(self.model.seen.numpy()))


class Model(keras.Sequential):
    """One dense layer on the mean colour, which counts traces and notes each step's batch."""

    def __init__(self, loss):
        pool = keras.layers.GlobalAveragePooling2D()
        super().__init__([keras.Input((None, None, 3)), pool, keras.layers.Dense(100)])
        self.traces = 0
        self.seen = tf.Variable(0, aggregation=tf.VariableAggregation.SUM)
        self.compile("sgd", loss, metrics=["accuracy"])

    def train_step(self, data):
        self.traces += 1
        # Pixels tell the image's size, the first axis how many there are.
        self.seen.assign(tf.size(data[0]) // 3)
        return super().train_step(data)


def sparse():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def expected(dataset, epoch):
    steps = dataset.steps(epoch)
    return (steps.batch_sizes * steps.heights * steps.widths).tolist()


@pytest.mark.parametrize("one_hot", [False, True])
def test_every_epoch_of_any_fit_plays_its_own_schedule_to_its_end(source, one_hot):
    dataset = MultiScaleDataset(source, **ARGUMENTS, one_hot=one_hot)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True) if one_hot else sparse()
    model, sizes = Model(loss), Sizes()
    validation = EvaluationDataset(source, crop_size=32, batch_size=30, one_hot=one_hot)
    assert len({len(expected(dataset, epoch)) for epoch in range(4)}) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(dataset, epochs=3, validation_data=validation, callbacks=[sizes], verbose=0)
        model.fit(dataset, epochs=1, callbacks=[sizes], verbose=0)
        results = model.evaluate(validation, verbose=0, return_dict=True)
    assert sizes.epochs == [expected(dataset, epoch) for epoch in range(4)]
    assert (dataset.next_epoch, dataset.next_step) == (4, 0)
    assert model.traces == sizes.traces_of_first_step
    images, labels = (np.concatenate(part) for part in zip(*validation, strict=True))
    labels = labels.argmax(1) if one_hot else labels
    outputs = model.predict_on_batch(images).argmax(1)
    assert results["accuracy"] == pytest.approx(np.mean(outputs == labels))


def test_a_fit_goes_on_in_the_middle_of_an_epoch(source):
    dataset, model, sizes = MultiScaleDataset(source, **ARGUMENTS), Model(sparse()), Sizes()
    dataset.next_epoch, dataset.next_step = 2, 3
    model.fit(dataset, epochs=2, callbacks=[sizes], verbose=0)
    assert sizes.epochs == [expected(dataset, 2)[3:], expected(dataset, 3)]


def test_a_stopped_epoch_is_over(source):
    dataset, model, sizes = MultiScaleDataset(source, **ARGUMENTS), Model(sparse()), Sizes()

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    model.fit(dataset, epochs=3, callbacks=[Stop(), sizes], verbose=0)
    model.fit(dataset, epochs=1, callbacks=[sizes], verbose=0)
    assert sizes.epochs == [expected(dataset, 0)[:1], expected(dataset, 1)]


def test_by_hand_it_plays_epoch_after_epoch(source):
    dataset = MultiScaleDataset(source, **ARGUMENTS)
    for epoch in range(3):
        played = [int(tf.size(images)) // 3 for images, _ in dataset]
        assert played == expected(dataset, epoch)
    assert dataset.next_epoch == 3
    assert dataset.element_spec == (
        tf.TensorSpec((None, None, None, 3), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )


def test_keras_warns_of_other_datasets_as_before(source):
    """Ours silence it for as long as their epoch runs, and leave a person's filters alone."""
    model = Model(sparse())
    other = tf.data.Dataset.from_tensors((tf.zeros((2, 32, 32, 3)), tf.zeros((2,), tf.int64)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="A person's own")
        before = list(warnings.filters)
        model.fit(MultiScaleDataset(source, **ARGUMENTS), verbose=0)
        assert warnings.filters == before
        with pytest.raises(UserWarning, match="Your input ran out of data"):
            model.fit(other, steps_per_epoch=2, shuffle=False, verbose=0)


def test_prepare_is_the_last_stage(source):
    def prepare(images, labels):
        return 2.0 * images, {"label": labels, "count": tf.shape(images)[:1]}

    plain = MultiScaleDataset(source, **ARGUMENTS).epoch(0)
    prepared = MultiScaleDataset(source, **ARGUMENTS, prepare=prepare).epoch(0)
    for (images, labels), (doubled, targets) in zip(plain, prepared, strict=True):
        np.testing.assert_array_equal(2.0 * images, doubled)
        np.testing.assert_array_equal(labels, targets["label"])
        assert targets["count"] == len(images)
    prepared = EvaluationDataset(source, crop_size=32, batch_size=100, prepare=prepare)
    for images, targets in prepared:
        assert float(tf.reduce_max(images)) == pytest.approx(2 * 99 / 255)
        assert targets["label"].shape == (100,)


class Points(NumberedImages):
    """Numbered images with a point in each, and a number that no table knows."""

    fields = ("label", "point", "weight")

    def records(self, split, seed, start):
        return (
            super()
            .records(split, seed, start)
            .map(
                lambda record: {
                    **record,
                    "point": tf.constant([4.0, 4.0]),
                    "weight": tf.cast(record["label"], tf.float32) / 2,
                }
            )
        )


def test_several_targets_come_as_a_dict_and_follow_the_pixels(monkeypatch):
    def decode(source, record, shape):
        return {"point": record["point"]}

    def move(moved, geometry):
        return {"point": geometry.boxes(tf.tile(moved["point"], [2])[None])[0, :2]}

    kind = TargetKind(("point",), decode, move, {})
    monkeypatch.setattr("mobilevit_keras.data.targets.KINDS", (*KINDS, kind))
    source = Points(40)
    fixed = {"sampler": "fixed", "base_size": 32, "batch_size": 16, "augmentation": "none"}
    for dataset in (MultiScaleDataset(source, **fixed), EvaluationDataset(source, crop_size=32)):
        for images, targets in dataset:
            assert sorted(targets) == ["label", "point", "weight"]
            np.testing.assert_array_equal(targets["weight"], targets["label"].numpy() / 2)
            # The middle of the image is the middle of the crop.
            np.testing.assert_allclose(targets["point"], np.full((len(images), 2), 16), atol=1e-4)
    with pytest.raises(ValueError, match="mixes labels.*label, point, weight"):
        MultiScaleDataset(source, augmentation="advanced")


def test_under_a_strategy_no_epoch_is_lost_to_building(source):
    """Before the first epoch `fit` takes a batch to build the model from; it is of no epoch."""
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    dataset, sizes = MultiScaleDataset(source, **ARGUMENTS), Sizes()
    validation = EvaluationDataset(source, crop_size=32, batch_size=30)
    with strategy.scope():
        model = Model(sparse())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epochs in (2, 1):
            model.fit(
                dataset.distributed(strategy),
                validation_data=validation.distributed(strategy),
                epochs=epochs,
                callbacks=[sizes],
                verbose=0,
            )
    assert sizes.epochs == [expected(dataset, epoch) for epoch in range(3)]
    halves = MultiScaleDataset(source, **ARGUMENTS, num_replicas=2)
    with pytest.raises(ValueError, match="number of replicas, 1. Received: 2"):
        halves.distributed(strategy)
