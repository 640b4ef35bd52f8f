from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mobilevit_keras.training.average import ExponentialMovingAverage
from mobilevit_keras.training.callbacks import (
    EpochProgress,
    ImagesPerSecond,
    SaveModel,
)
from mobilevit_keras.training.optimizer import AdamW, warmup_cosine
from tests.training.fitting import RandomPipeline, SetEpoch, Watch, fit, small_model

LENGTHS = [3, 5, 2, 4]


def new_optimizer():
    return AdamW(warmup_cosine(0.001, 0.01, 0.001, 2, 14), weight_decay=0.01)


def test_epochs_of_different_lengths_are_played_to_their_ends():
    pipeline, watch = RandomPipeline(LENGTHS), Watch()
    model = small_model(new_optimizer())
    fit(model, pipeline, [watch, SetEpoch(pipeline)], len(LENGTHS))
    assert watch.steps_of_epoch == LENGTHS
    # At its end `fit` calls the step once more, without a batch: nothing of it may happen.
    assert int(model.optimizer.iterations) == sum(LENGTHS)


def test_save_model_writes_the_averages(tmp_path):
    model = small_model(keras.optimizers.SGD(0.5))
    average = ExponentialMovingAverage(0.9)
    average.set_model(model)
    model.layers[0].kernel.assign_add(np.ones((3, 3, 3, 4)))
    saver = SaveModel(tmp_path / "model.keras", average, every_seconds=0.0)
    saver.set_model(model)
    saver.on_epoch_end(0)
    saved = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(saved.layers[0].kernel, average.averages[0])
    assert (saved.layers[0].kernel.numpy() != model.layers[0].kernel.numpy()).all()
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


def test_the_progress_bar_knows_each_epochs_length(capsys):
    pipeline = RandomPipeline(LENGTHS)
    model = small_model(new_optimizer())
    progress = EpochProgress(lambda epoch: LENGTHS[epoch])
    with_bar = [SetEpoch(pipeline), progress]
    from mobilevit_keras.training.epochs import EpochsOfAnyLength, epochs_may_end_early

    with epochs_may_end_early():
        model.fit(EpochsOfAnyLength(pipeline.dataset(), 5), epochs=4, callbacks=with_bar, verbose=1)
    printed = capsys.readouterr().out
    for length in LENGTHS:
        assert f"{length}/{length}" in printed


@pytest.mark.parametrize("steps, images", [(3, 56), (2, 24)])
def test_speed_counts_the_steps_that_ran(monkeypatch, steps, images):
    """All three of an epoch, or the last two in a training that went on after the first."""
    clock = iter([10.0, *np.linspace(11.0, 14.0, steps)])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    speed = ImagesPerSecond(lambda epoch: SimpleNamespace(batch_sizes=np.array([32, 16, 8])))
    speed.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=np.float32(0.5))))
    speed.on_epoch_begin(0)
    for batch in range(steps):
        speed.on_train_batch_end(batch)
    logs = {}
    speed.on_epoch_end(0, logs)
    assert logs == {"images_per_second": images / 4.0, "learning_rate": 0.5}
