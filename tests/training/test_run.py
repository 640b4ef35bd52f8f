"""A run, and the same training put together from the parts as a script of one's own does it."""

import os
import shutil
import signal

import keras
import numpy as np
import pytest
import yaml

import mobilevit_keras as mv
from mobilevit_keras import commands
from mobilevit_keras.training import Preempted, Recipe, Run
from mobilevit_keras.training.checkpoints import list_checkpoints
from mobilevit_keras.training.run_folder import RunFolder
from tests.photos import write_coloured_photos
from tests.tiny import build_tiny
from tests.training.fitting import Watch
from train import assembly
from train.__main__ import main

EPOCHS = 2


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_coloured_photos(folder, {"red": 0, "blue": 2}, 12, "{:02d}.jpg")
    return folder


def data(photos, **options):
    source = mv.data.open_source(f"folder:{photos}")
    train = mv.data.MultiScaleDataset(source, sizes=(32, 64), base_size=32, batch_size=4, **options)
    return train, mv.data.EvaluationDataset(source, crop_size=32)


def tiny_model(class_names):
    keras.utils.set_random_seed(0)
    return build_tiny(len(class_names), class_names, num_layers=(1, 1, 1))


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def script(photos, folder, *callbacks):
    """What the README shows under "From Python"; returns the model and the history."""
    train, validation = data(photos)
    model = tiny_model(train.source.class_names)
    model.compile(
        mv.training.paper_optimizer(train.total_steps(epochs=EPOCHS)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    average = mv.training.ExponentialMovingAverage(0.9995)
    checkpoints = mv.training.Checkpoints(folder, train, average, resume="auto")
    history = model.fit(
        train,
        validation_data=validation,
        epochs=EPOCHS,
        initial_epoch=checkpoints.epoch,
        callbacks=[average, *callbacks, checkpoints],
        verbose=0,
    )
    return model, history.history


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """The script, not interrupted: model, history and the loss after each step."""
    watch = Watch()
    model, history = script(photos, tmp_path_factory.mktemp("whole"), watch)
    return model, history, watch.losses


def assert_equal_weights(a, b):
    for x, y in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=x.path)


class TestScript:
    @pytest.mark.slow
    def test_interrupted_and_run_again(self, photos, whole, tmp_path):
        """The losses of the interrupted script and of the one that goes on, to the bit."""
        expected, history, losses = whole
        first, second = Watch(len(losses) // 2, terminate), Watch()
        with pytest.raises(Preempted):
            script(photos, tmp_path, first)
        found, rest = script(photos, tmp_path, second)
        assert first.losses + second.losses == losses and len(first.losses) > 2
        for name, values in rest.items():
            assert values == history[name][-len(values) :]
        assert_equal_weights(found, expected)

    @pytest.mark.slow
    def test_the_command_trains_the_same_weights(self, photos, whole, tmp_path, monkeypatch):
        monkeypatch.setattr(
            assembly, "build_model", lambda config, class_names: tiny_model(class_names)
        )
        arguments = ["classification", "--data", f"folder:{photos}", "--output", tmp_path / "run"]
        arguments += ["--sizes", 32, 64, "--base-size", 32, "--batch-size", 4, "--epochs", EPOCHS]
        arguments += ["--label-smoothing", 0, "--ema-decay", 0.9995, "--verbose", 0]
        assert commands.run(main, [str(argument) for argument in arguments]) == 0
        assert_equal_weights(mv.load_model(tmp_path / "run" / "model.keras"), whole[0])


def make_run(photos, folder, **options):
    train, validation = data(photos)
    recipe = Recipe(epochs=options.pop("epochs", 2), ema_decay=options.pop("ema_decay", 0.9995))
    task, model = mv.tasks.Classification(0.1), tiny_model(train.source.class_names)
    return Run(task, model, train, validation, recipe, folder, verbose=0, **options)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """A finished run's folder, and its model."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, make_run(photos, folder, configuration={"seed": 0}).fit()


class TestRun:
    def test_its_folder(self, finished):
        folder, model = finished
        names = {"best.keras", "checkpoints", "config.yaml", "curves.png", "log.csv"}
        names |= {"model.keras", "samples", "tensorboard"}
        assert {path.name for path in folder.iterdir()} == names
        assert_equal_weights(mv.load_model(folder / "model.keras"), model)

    @pytest.mark.slow
    def test_a_run_that_is_stopped_leaves_a_model_and_goes_on(self, photos, finished, tmp_path):
        run = make_run(photos, tmp_path)
        fit = run.model.fit

        def fit_watched(*arguments, callbacks, **options):
            watch = Watch(2, terminate)
            watch.set_model(run.model)
            callbacks.callbacks.insert(0, watch)
            return fit(*arguments, callbacks=callbacks, **options)

        run.model.fit = fit_watched
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(Preempted):
            run.fit()
        assert signal.getsignal(signal.SIGTERM) is handler
        stopped = mv.load_model(tmp_path / "model.keras")
        averages = run.average.averages
        kernels = [w for w in stopped.weights if "float" in w.dtype]
        for weight, average in zip(kernels, averages, strict=True):
            np.testing.assert_array_equal(weight, average)
        assert_equal_weights(make_run(photos, tmp_path, resume=True).fit(), finished[1])

    def test_the_last_epoch_is_validated_whatever_the_others_are(self, photos, tmp_path):
        run = make_run(photos, tmp_path)
        for epochs, every, validated in ((5, 2, [2, 4, 5]), (4, 2, [2, 4]), (2, 1, [1, 2])):
            run.recipe, run.validation_every = Recipe(epochs=epochs), every
            assert run._validated_epochs() == validated
        with pytest.raises(ValueError, match="`validation_every` must be at least 1. Received: 0"):
            make_run(photos, tmp_path, validation_every=0)

    def test_resume_begins_where_nothing_is(self, photos, tmp_path):
        """Also where a run ended before its first checkpoint, and what it was begun with."""
        (tmp_path / "config.yaml").write_text("seed: 7\n")
        run = make_run(photos, tmp_path, resume=True, configuration={"seed": 0})
        assert run._open_folder() is None
        assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"seed": 0}

    def test_an_average_that_lags_is_told_of(self, photos, tmp_path, capsys):
        run = make_run(photos, tmp_path)
        history = keras.callbacks.History()
        history.history = {"val_top1": [0.4]}
        run.validation.source.num_examples = lambda split: 1000
        run.average.set_model(run.model)
        # A decay that was never reached: what is below it may change nothing.
        run.average.decay, run.average.num_batches = 0.9995, 100
        for value, warns in ((0.44, False), (0.46, True)):
            run.model.evaluate = lambda *a, value=value, **k: {"top1": value}
            run._compare_with_trained(history)
            assert ("--ema-decay under 0.9182, what" in capsys.readouterr().out) == warns
        # Of four images, one more that is right says nothing.
        run.validation.source.num_examples = lambda split: 4
        run.model.evaluate = lambda *a, **k: {"top1": 0.65}
        run._compare_with_trained(history)
        assert not capsys.readouterr().out

    def test_a_model_that_has_learned_nothing_is_told_of(self, photos, tmp_path, capsys):
        run = make_run(photos, tmp_path)
        history = keras.callbacks.History()
        # Two classes: of 1,000 images half are right by chance, 31 more or less; of ten, three.
        for images, value, warns in ((1000, 0.52, True), (1000, 0.54, False), (10, 0.8, True)):
            run.validation.source.num_examples = lambda split, images=images: images
            history.history = {"val_top1": [0.9, value]}
            run._compare_with_chance(history)
            printed = capsys.readouterr().out
            assert printed.startswith(f"warning: validation's top1 is {value:.3f}, ") == warns
            assert ("that has learned nothing gets (0.500)" in printed) == warns
        # Without a validation nothing is known.
        history.history = {"loss": [1.0]}
        run._compare_with_chance(history)
        assert not capsys.readouterr().out

    def test_the_header_names_the_classes(self, photos, tmp_path):
        run = make_run(photos, tmp_path)
        train, validation = map(run.train.source.num_examples, ("train", "validation"))
        images = f"{train} training and {validation} validation images"
        assert f"2 classes (blue, red), {images}, " in run._header()
        assert " epochs at 32, 64 pixels, " in run._header()

    def test_it_names_no_task(self):
        from mobilevit_keras.training import run

        with open(run.__file__, encoding="utf-8") as file:
            assert "classif" not in file.read().lower()


EXPORTS = (
    "model.tflite", "model.report.json", "model.labels.txt", "labels.txt", "tfjs/model.json",
    "tfjs/report.json",
)  # fmt: skip
OTHERS = (
    "notes.txt",
    "others.tflite",
    "theirs/model.json",
    "holiday/report.json",
    "web/models.json",
)


class TestFolder:
    def test_overwrite_deletes_what_a_run_and_its_exports_wrote(self, photos, tmp_path, capsys):
        for name in ("model.keras", "log.csv", "samples/00_red.jpg", *EXPORTS, *OTHERS):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        folder = make_run(photos, tmp_path).folder
        with pytest.raises(ValueError, match="--overwrite begins anew"):
            folder.find_checkpoint(resume=False, overwrite=False)
        with pytest.raises(ValueError, match="--resume finds no checkpoint"):
            folder.find_checkpoint(resume=True, overwrite=False)
        assert folder.find_checkpoint(resume=False, overwrite=True) is None
        folder.begin(overwrite=True)
        left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
        assert left == set(OTHERS)
        assert "deleted model.keras, log.csv, samples, model.tflite" in capsys.readouterr().out

    def test_exports_stay_where_there_is_no_run(self, photos, tmp_path):
        (tmp_path / "model.tflite").touch()
        (tmp_path / "model.report.json").touch()
        folder = make_run(photos, tmp_path).folder
        assert folder.find_checkpoint(resume=False, overwrite=False) is None
        folder.begin(overwrite=False)
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_run_goes_on_from_a_checkpoint_before_a_damaged_one(self, finished, tmp_path):
        folder = RunFolder(shutil.copytree(finished[0], tmp_path / "run"))
        *_, before, last = list_checkpoints(folder.checkpoints)
        last.write_bytes(last.read_bytes()[:1000])
        assert folder.find_checkpoint(resume=True, overwrite=False) == before
