import os
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mobilevit_keras.training.callbacks import (
    EpochProgress,
    ImagesPerSecond,
    LogsOfEarlierSteps,
    SaveModel,
    StopOnNaN,
)
from mobilevit_keras.training.checkpoints import Checkpoints, Preempted, list_checkpoints
from mobilevit_keras.training.ema import ExponentialMovingAverage
from mobilevit_keras.training.optimizer import AdamW, warmup_cosine
from tests.training.fitting import RandomPipeline, SetEpoch, fit, small_model

LENGTHS = [3, 5, 2, 4]


def new_optimizer():
    return AdamW(warmup_cosine(0.001, 0.01, 0.001, 2, 14), weight_decay=0.01)


class Watch(keras.callbacks.Callback):
    """Keeps every step's loss and epoch's logs, and may do something after one of the steps."""

    def __init__(self, after_step=None, do=None) -> None:
        super().__init__()
        self.losses = []
        self.epoch_logs = []
        self.steps_of_epoch = []
        self.after_step, self.do = after_step, do

    def on_epoch_begin(self, epoch, logs=None):
        self.steps_of_epoch.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.steps_of_epoch[-1] += 1
        self.losses.append(float(logs["loss"]))
        if len(self.losses) == self.after_step:
            self.do()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch_logs.append(dict(logs))


def test_epochs_of_different_lengths_are_played_to_their_ends():
    pipeline, watch = RandomPipeline(LENGTHS), Watch()
    model = small_model(new_optimizer())
    fit(model, pipeline, [watch, SetEpoch(pipeline)], len(LENGTHS))
    assert watch.steps_of_epoch == LENGTHS


class TestExponentialMovingAverage:
    def test_closed_form_over_every_weight_and_statistic(self):
        pipeline = RandomPipeline([4])
        model = small_model(keras.optimizers.SGD(0.1))
        seen = [model.get_weights()]
        watch = Watch()
        watch.on_train_batch_end = lambda batch, logs=None: seen.append(model.get_weights())
        average = ExponentialMovingAverage(0.9)
        fit(model, pipeline, [watch, average], 1)
        expected = seen[0]
        for weights in seen[1:]:
            expected = [0.9 * a + 0.1 * w for a, w in zip(expected, weights, strict=True)]
        for found, value in zip(model.get_weights(), expected, strict=True):
            if found.dtype.kind == "f":
                np.testing.assert_allclose(found, value, atol=1e-6)
        moving = [w for w in model.weights if w.name == "moving_mean"][0].numpy()
        assert (moving != seen[-1][4]).any()

    def test_validation_runs_on_the_averages_and_training_goes_on_with_the_weights(self):
        pipeline = RandomPipeline([3])
        model = small_model(keras.optimizers.SGD(0.5))
        x = np.random.default_rng(0).random((8, 8, 8, 3), "float32")
        y = np.eye(3)[np.arange(8) % 3]
        average = ExponentialMovingAverage(0.9)
        history = fit(model, pipeline, [average], 1, validation_data=(x, y))
        # After training the model holds the averages, so its own loss is the validation's.
        loss = model.evaluate(x, y, verbose=0)[0]
        assert history.history["val_loss"][0] == pytest.approx(loss, rel=1e-5)

    def test_applied_puts_everything_back(self):
        model = small_model(keras.optimizers.SGD(0.5))
        average = ExponentialMovingAverage(0.9)
        average.set_model(model)
        model.layers[0].kernel.assign_add(np.ones((3, 3, 3, 4)))
        before = model.get_weights()
        with pytest.raises(RuntimeError), average.applied():
            assert (model.get_weights()[0] != before[0]).all()
            raise RuntimeError
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("decay", [-0.1, 1.0])
    def test_bad_decay(self, decay):
        with pytest.raises(ValueError, match=f"Received: {decay}"):
            ExponentialMovingAverage(decay)


def run(directory, *, resume=None, every_steps=2, watch=None, epochs=4):
    """A training with all that a checkpoint must keep; returns (model, watch)."""
    pipeline = RandomPipeline(LENGTHS)
    model = small_model(new_optimizer())
    average = ExponentialMovingAverage(0.9)
    checkpoints = Checkpoints(
        directory,
        pipeline,
        average,
        metrics=model.tracked,
        every_steps=every_steps,
        keep=2,
        resume=resume,
    )
    watch = Watch() if watch is None else watch
    callbacks = [average, StopOnNaN(checkpoints), LogsOfEarlierSteps(checkpoints)]
    callbacks += [checkpoints, watch]
    fit(model, pipeline, callbacks, epochs, initial_epoch=checkpoints.epoch)
    return model, watch


class TestCheckpoints:
    @pytest.mark.parametrize("stop_after", [2, 3, 4, 7])
    def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(self, tmp_path, stop_after):
        whole, all_steps = run(tmp_path / "whole")

        def terminate():
            os.kill(os.getpid(), signal.SIGTERM)

        # The signal arrives after this step's callbacks, so one more step is run and kept.
        with pytest.raises(Preempted, match=f"SIGTERM after step {stop_after + 1}"):
            run(tmp_path / "cut", watch=Watch(stop_after, terminate))
        last = list_checkpoints(tmp_path / "cut")[-1]
        assert last.name == f"step-{stop_after + 1:08d}.npz"
        resumed, rest = run(tmp_path / "cut", resume=last)
        assert rest.losses == all_steps.losses[stop_after + 1 :]
        # Steps 3 and 8 are the last ones of their epochs.
        assert rest.epoch_logs == all_steps.epoch_logs[-len(rest.epoch_logs) :]
        for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_the_signals_go_back_to_their_owners(self, tmp_path):
        before = signal.getsignal(signal.SIGTERM)
        run(tmp_path)
        assert signal.getsignal(signal.SIGTERM) is before

    def test_the_last_ones_stay(self, tmp_path):
        run(tmp_path)
        assert [p.name for p in list_checkpoints(tmp_path)] == [
            "step-00000012.npz",
            "step-00000014.npz",
        ]
        assert not list(tmp_path.glob(".partial*"))

    def test_a_checkpoint_of_another_model(self, tmp_path):
        run(tmp_path, epochs=1)
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
        model.add(keras.layers.Dense(3))
        model.compile(new_optimizer(), "categorical_crossentropy")
        pipeline = RandomPipeline(LENGTHS)
        checkpoints = Checkpoints(tmp_path, pipeline, resume=list_checkpoints(tmp_path)[-1])
        with pytest.raises(ValueError, match=r"step-00000003.npz, which differs in \d+ variables"):
            fit(model, pipeline, [checkpoints], 2, initial_epoch=checkpoints.epoch)

    def test_a_loss_that_is_no_number(self, tmp_path):
        def poison():
            watch.model.layers[-1].kernel.assign(np.full((4, 3), np.nan))

        watch = Watch(4, poison)
        with pytest.raises(FloatingPointError) as raised:
            run(tmp_path, watch=watch)
        message = str(raised.value)
        assert "after step 5 (epoch 2, learning rate 0.0" in message
        assert message.endswith("step-00000004.npz")
        # What was written before the fault stays usable.
        run(tmp_path, resume=list_checkpoints(tmp_path)[-1])


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
