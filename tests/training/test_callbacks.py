from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mobilevit_keras.data import EpochAdapter
from mobilevit_keras.data.scales import Steps
from mobilevit_keras.training import callbacks
from mobilevit_keras.training.average import ExponentialMovingAverage
from mobilevit_keras.training.checkpoints import Checkpoints
from mobilevit_keras.training.epoch_log import EpochLog, keep_log_before
from mobilevit_keras.training.measuring import MeasureValidation
from mobilevit_keras.training.model_file import ModelWriter, SaveBest, SaveModel
from mobilevit_keras.training.optimizer import AdamW, warmup_cosine
from mobilevit_keras.training.plots import plot_curves
from tests.training.fitting import RandomPipeline, SetEpoch, Watch, fit, small_model

LENGTHS = [3, 5, 2, 4]
IMAGES = np.random.default_rng(0).random((9, 8, 8, 3), "float32")
LABELS = np.eye(3)[np.arange(9) % 3]


def new_optimizer():
    return AdamW(warmup_cosine(0.001, 0.01, 0.001, 2, 14), weight_decay=0.01)


def test_epochs_of_different_lengths_are_played_to_their_ends():
    pipeline, watch = RandomPipeline(LENGTHS), Watch()
    model = small_model(new_optimizer())
    fit(model, pipeline, [watch, SetEpoch(pipeline)], len(LENGTHS))
    assert watch.steps_of_epoch == LENGTHS
    # At its end `fit` calls the step once more, without a batch: nothing of it may happen.
    assert int(model.optimizer.iterations) == sum(LENGTHS)


def fit_with_files(folder, lengths, **options):
    """Fits with all that writes models; returns the history."""
    pipeline = RandomPipeline(lengths)
    model = small_model(keras.optimizers.SGD(0.5))
    writer = ModelWriter(model)
    log = folder / "log.csv"
    listed = [
        ExponentialMovingAverage(0.9),
        SaveBest(folder / "best.keras", writer, "accuracy", log),
        EpochLog(log),
        SaveModel(folder / "model.keras", writer, every_seconds=0.0),
        SetEpoch(pipeline),
    ]
    data = {"validation_data": (IMAGES, LABELS), **options}
    return fit(model, pipeline, listed, len(lengths), **data).history


def test_models_are_written_as_they_were_validated(tmp_path):
    history = fit_with_files(tmp_path, [3, 3, 3, 3])
    last, best = (keras.models.load_model(tmp_path / f"{name}.keras") for name in ("model", "best"))
    for model in (last, best):
        model.compile(loss=keras.losses.CategoricalCrossentropy(True), metrics=["accuracy"])
    found = last.evaluate(IMAGES, LABELS, verbose=0)
    expected = history["val_loss"][-1], history["val_accuracy"][-1]
    assert found == pytest.approx(expected, rel=1e-5)
    assert best.evaluate(IMAGES, LABELS, verbose=0)[1] == max(history["val_accuracy"])
    assert {p.name for p in tmp_path.iterdir()} == {"model.keras", "best.keras", "log.csv"}


def test_the_best_stays_where_a_training_goes_on(tmp_path):
    fit_with_files(tmp_path, [3, 3])
    log = (tmp_path / "log.csv").read_text().splitlines()
    column = log[0].split(",").index("val_accuracy")
    rows = [line.split(",") for line in log[1:]]
    rows[0][column] = "1.5"
    lines = [log[0], *(",".join(row) for row in rows)]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    before = (tmp_path / "best.keras").read_bytes()
    fit_with_files(tmp_path, [3, 3, 3], initial_epoch=2)
    assert (tmp_path / "best.keras").read_bytes() == before


def test_an_epoch_without_validation_has_no_figures_of_it(tmp_path):
    """Nor has the first row of a training that goes on, whose columns stay those of the file."""
    measure = MeasureValidation.__new__(MeasureValidation)
    measure.measure = lambda: {"figure": 0.5}
    for epoch, logs in enumerate(
        ({"loss": 3.0}, {"loss": 2.0, "val_loss": 2.5}, {"loss": 1.0}, {"loss": 0.5})
    ):
        measure.on_epoch_end(epoch, logs)
        EpochLog(tmp_path / "log.csv").on_epoch_end(epoch, logs)
    keep_log_before(tmp_path / "log.csv", 3)
    assert (tmp_path / "log.csv").read_text().splitlines() == [
        "epoch,loss,val_figure,val_loss",
        "0,3.0,,",
        "1,2.0,0.5,2.5",
        "2,1.0,,",
    ]
    metrics = [("Figure", "figure"), ("Absent", "absent")]
    plot_curves(tmp_path / "log.csv", tmp_path / "curves.png", metrics)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_progress_bar_knows_each_epochs_length(capsys):
    pipeline = RandomPipeline(LENGTHS)
    model = small_model(new_optimizer())
    progress = callbacks.EpochProgress(lambda epoch: LENGTHS[epoch])
    with_bar = [SetEpoch(pipeline), progress]

    model.fit(EpochAdapter(pipeline.dataset(), 5), epochs=4, callbacks=with_bar, verbose=1)
    printed = capsys.readouterr().out
    for length in LENGTHS:
        assert f"{length}/{length}" in printed


class Late:
    """A number that notes when it is asked for."""

    def __init__(self, value, note) -> None:
        self.value, self.note = value, note

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        self.note()
        return np.array(self.value, dtype)

    def __float__(self) -> float:
        return float(self.__array__())


def test_a_step_does_not_wait_for_the_one_before(monkeypatch, tmp_path):
    """Numbers are asked for after every 16 steps, at an epoch's end, and for the bar's pictures."""
    monkeypatch.setattr(callbacks, "_REDRAWN_AFTER", 1e9)
    lengths = [40, 22]
    pipeline = RandomPipeline(lengths)
    model = small_model(new_optimizer())
    model.make_train_function()
    train_function, steps, asked = model.train_function, [], []

    def late(iterator):
        logs = train_function(iterator)
        steps.append(logs)
        return {name: Late(value, lambda: asked.append(len(steps))) for name, value in logs.items()}

    model.train_function = late

    def steps_of(epoch):
        sizes = np.full(lengths[epoch], 3)
        return Steps(8 * sizes, 8 * sizes, sizes, np.cumsum(sizes) - sizes)

    average = ExponentialMovingAverage(0.9)
    checkpoints = Checkpoints(tmp_path / "checkpoints", pipeline, average)
    listed = callbacks.UnreadLogs(
        [
            average,
            callbacks.LogsOfEarlierSteps(checkpoints),
            callbacks.ImagesPerSecond(checkpoints, steps_of),
            callbacks.StepLog(tmp_path, checkpoints, steps_of),
            callbacks.EpochProgress(lambda epoch: lengths[epoch]),
            checkpoints,
        ],
        add_history=True,
        model=model,
        verbose=1,
        epochs=2,
        steps=None,
    )
    # Also those of validation, which nobody asks for before its end.
    fit(model, pipeline, listed, 2, validation_data=(IMAGES, LABELS), validation_batch_size=1)
    assert sorted(set(asked)) == [1, 16, 32, 40, 41, 48, 62]
    assert [len(values) for values in model.history.history.values()] == [2] * 6


@pytest.mark.parametrize("steps, images", [(3, 56), (2, 24)])
def test_speed_counts_the_steps_that_ran(monkeypatch, steps, images):
    """All three of an epoch, or the last two in a training that went on after the first."""
    clock = iter([10.0, *np.linspace(11.0, 14.0, steps)])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    checkpoints = SimpleNamespace(step=3 - steps)
    sizes = SimpleNamespace(batch_sizes=np.array([32, 16, 8]))
    speed = callbacks.ImagesPerSecond(checkpoints, lambda epoch: sizes)
    speed.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=np.float32(0.5))))
    speed.on_epoch_begin(0)
    for batch in range(steps):
        speed.on_train_batch_end(batch)
        checkpoints.step += 1
    logs = {}
    speed.on_epoch_end(0, logs)
    assert logs == {"images_per_second": images / 4.0, "learning_rate": 0.5}
