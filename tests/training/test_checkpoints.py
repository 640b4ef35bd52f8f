import json
import os
import signal
import threading

import keras
import numpy as np
import pytest

from mobilevit_keras.training.average import ExponentialMovingAverage
from mobilevit_keras.training.callbacks import LogsOfEarlierSteps
from mobilevit_keras.training.checkpoints import (
    Checkpoints,
    Preempted,
    list_checkpoints,
    newest_checkpoint,
)
from mobilevit_keras.training.epoch_log import EpochLog
from mobilevit_keras.training.model_file import ModelWriter, SaveBest, SaveModel
from mobilevit_keras.training.optimizer import AdamW, warmup_cosine
from tests.training.fitting import RandomPipeline, Watch, fit, small_model

LENGTHS = [3, 5, 2, 4]
IMAGES = np.random.default_rng(0).random((6, 8, 8, 3), "float32")
VALIDATION = (IMAGES, np.eye(3)[np.arange(6) % 3])


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def new_optimizer(**options):
    return AdamW(warmup_cosine(0.001, 0.01, 0.001, 2, 14), weight_decay=0.01, **options)


def run(directory, *, resume=None, every_steps=2, watch=None, epochs=4, decay=0.9, **options):
    """A training with all that a checkpoint must keep; returns (model, watch)."""
    pipeline = RandomPipeline(LENGTHS)
    model = small_model(new_optimizer(**options))
    average = ExponentialMovingAverage(decay)
    checkpoints = Checkpoints(
        directory,
        pipeline,
        average,
        every_steps=every_steps,
        keep=2,
        resume=resume,
    )
    watch = Watch() if watch is None else watch
    callbacks = [average, LogsOfEarlierSteps(checkpoints)]
    callbacks += [checkpoints, watch]
    more = {"initial_epoch": checkpoints.epoch, "validation_batch_size": 2}
    fit(model, pipeline, callbacks, epochs, validation_data=VALIDATION, **more)
    return model, watch


class TestCheckpoints:
    @pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "decay": 0.9995}])
    @pytest.mark.parametrize("signal_after, stops_after", [(2, 3), (3, 3), (4, 5), (7, 8)])
    def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(
        self, tmp_path, signal_after, stops_after, options
    ):
        whole, all_steps = run(tmp_path / "whole", **options)
        # A signal arrives after its step's callbacks: one more step is run and kept. The third step
        # is its epoch's last, and the first batch of validation is what comes next.
        with pytest.raises(Preempted, match=f"SIGTERM after step {stops_after}"):
            run(tmp_path / "cut", watch=Watch(signal_after, terminate), **options)
        last = list_checkpoints(tmp_path / "cut")[-1]
        assert last.name == f"step-{stops_after:08d}.npz"
        resumed, rest = run(tmp_path / "cut", resume="auto", **options)
        assert rest.losses == all_steps.losses[stops_after:]
        # Steps 3 and 8 are the last ones of their epochs.
        assert rest.epoch_logs == all_steps.epoch_logs[-len(rest.epoch_logs) :]
        for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_workers_are_asked_every_so_often(self, tmp_path):
        """At every fourth step, every fourth batch of validation, and each epoch's end but one."""
        asked = []

        def ask(flag):
            asked.append(checkpoints.total_step)
            return flag

        pipeline = RandomPipeline(LENGTHS)
        checkpoints = Checkpoints(tmp_path, pipeline, anywhere=ask, ask_every=4)
        options = {"validation_data": VALIDATION, "validation_batch_size": 1, "validation_freq": 2}
        fit(small_model(new_optimizer()), pipeline, [checkpoints], 4, **options)
        assert asked == [3, 4, 8, 8, 8, 8, 10, 12, 14, 14]

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

    @pytest.mark.parametrize(
        "poisoned_after, fault",
        [(4, "the loss is nan"), (5, r"the weight \S+/kernel is no finite number")],
    )
    def test_an_epochs_last_step_that_gives_no_number(self, tmp_path, poisoned_after, fault):
        """Nothing is validated, nothing is written: what the epoch before left stays."""

        def poison():
            # As if the step had done it: before anything looks at its weights.
            watch.model.layers[-1].kernel.assign(np.full((4, 3), np.nan))

        def fit_epochs(epochs):
            pipeline, model = RandomPipeline(LENGTHS), small_model(new_optimizer())
            checkpoints = Checkpoints(tmp_path, pipeline, every_steps=100, resume="auto")
            writer, log = ModelWriter(model), tmp_path / "log.csv"
            files = [
                SaveBest(tmp_path / "best.keras", writer, "accuracy", log),
                EpochLog(log),
                SaveModel(tmp_path / "model.keras", writer, every_seconds=0.0),
            ]
            options = {"validation_data": VALIDATION, "validation_batch_size": 1}
            options["initial_epoch"] = checkpoints.epoch
            fit(model, pipeline, [watch, validated, *files, checkpoints], epochs, **options)

        watch, validated = Watch(), Stop(lambda: None)
        fit_epochs(1)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert len(before) == 4
        watch, validated = Watch(poisoned_after, poison), Stop(lambda: None)
        with pytest.raises(FloatingPointError, match=rf"{fault} after step 8 \(epoch 2, "):
            fit_epochs(2)
        assert not validated.seen
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


class TestResume:
    def test_an_epoch_that_begins_from_a_checkpoint_has_its_own_metrics(self, tmp_path):
        """Not the last epoch's, or its validation's, mixed into its own."""
        _, whole = run(tmp_path / "whole")
        run(tmp_path / "cut", epochs=1)
        _, rest = run(tmp_path / "cut", resume="auto")
        assert rest.epoch_logs == whole.epoch_logs[1:]

    def test_checkpoints_of_0_1_0_lack_the_averages_count(self, tmp_path):
        _, whole = run(tmp_path / "whole")
        run(tmp_path / "cut", epochs=2)
        path = list_checkpoints(tmp_path / "cut")[-1]
        with np.load(path) as file:
            arrays = dict(file)
        position = json.loads(str(arrays["position"]))
        assert position.pop("averaged_batches") == 8
        del position["scales"]
        np.savez(path, **{**arrays, "position": np.array(json.dumps(position))})
        _, rest = run(tmp_path / "cut", resume=path)
        assert rest.epoch_logs == whole.epoch_logs[2:]

    @pytest.mark.parametrize("damage", ["cut short", "bytes changed", "no archive"])
    def test_a_damaged_checkpoint_gives_way_to_the_one_before(self, tmp_path, damage, capsys):
        run(tmp_path)
        before, last = list_checkpoints(tmp_path)
        content = last.read_bytes()
        half = len(content) // 2
        middle = content[: half - 200] + bytes(400) + content[half + 200 :]
        damaged = {"cut short": content[:half], "bytes changed": middle, "no archive": b"x" * 99}
        last.write_bytes(damaged[damage])
        assert newest_checkpoint(tmp_path) == before
        assert f"{last} cannot be read" in capsys.readouterr().out
        before.write_bytes(b"")
        with pytest.raises(ValueError, match="2 in .* none of which can be read"):
            newest_checkpoint(tmp_path)

    def test_auto_begins_where_there_is_none(self, tmp_path):
        assert newest_checkpoint(tmp_path / "missing") is None
        assert Checkpoints(tmp_path, RandomPipeline(LENGTHS), resume="auto").resume is None

    @pytest.mark.slow
    def test_other_batches_are_refused(self, tmp_path):
        """As another number of replicas would make them: the same step would be other images."""
        run(tmp_path, epochs=1)
        path = list_checkpoints(tmp_path)[-1]
        with np.load(path) as file:
            arrays = dict(file)
        position = {**json.loads(str(arrays["position"])), "scales": [[32, 8], [64, 2]]}
        np.savez(path, **{**arrays, "position": np.array(json.dumps(position))})
        pipeline = RandomPipeline(LENGTHS)
        pipeline.schedule = type("Schedule", (), {"scales": ((32, 8), (64, 2))})
        Checkpoints(tmp_path, pipeline, resume=path)
        pipeline.schedule = type("Schedule", (), {"scales": ((32, 8), (64, 4))})
        with pytest.raises(ValueError, match="batches it began with"):
            Checkpoints(tmp_path, pipeline, resume=path)


class Stop(keras.callbacks.Callback):
    """Does something at the first batch of the first validation."""

    def __init__(self, do) -> None:
        super().__init__()
        self.do, self.seen = do, 0

    def on_test_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == 1:
            self.do()


def fail():
    raise RuntimeError("a fault")


class TestSignals:
    @pytest.fixture(autouse=True)
    def usual_handlers(self):
        """A shell's background jobs ignore SIGINT, and an earlier test may have left a handler."""
        usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        before = {number: signal.signal(number, handler) for number, handler in usual.items()}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)

    def fit(self, directory, *callbacks):
        pipeline = RandomPipeline(LENGTHS)
        model = small_model(new_optimizer())
        checkpoints = Checkpoints(directory, pipeline, every_steps=100)
        options = {"validation_data": VALIDATION, "validation_batch_size": 1}
        fit(model, pipeline, [*callbacks, checkpoints], 2, **options)

    def test_validation_stops_after_its_next_batch(self, tmp_path):
        stop = Stop(terminate)
        with pytest.raises(Preempted, match="SIGTERM after step 3"):
            self.fit(tmp_path, stop)
        assert stop.seen <= 2
        assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000003.npz"]

    def test_after_an_error_the_next_signal_is_its_owners(self, tmp_path):
        with pytest.raises(RuntimeError, match="a fault"):
            self.fit(tmp_path, Stop(fail))
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def test_a_second_interruption_ends_at_once(self, tmp_path):
        def interrupt_twice():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            self.fit(tmp_path, Stop(interrupt_twice))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def test_fit_outside_of_the_main_thread(self, tmp_path):
        errors = []

        def run_in_thread():
            try:
                self.fit(tmp_path)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run_in_thread)
        thread.start()
        thread.join()
        assert not errors and list_checkpoints(tmp_path)
