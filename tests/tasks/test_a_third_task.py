"""A task of a person's own goes every way through the house that the package's own go."""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

import mobilevit_keras as mv
from mobilevit_keras.evaluation import evaluate, open_predictor
from mobilevit_keras.export import run_tfjs, run_tflite
from tests.tasks.mean_colour import MeanColour, MeanColourModel
from tests.tiny import build_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Plain pictures of many colours; the folders' names mean nothing here."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / name).mkdir()
        for index in range(24):
            pixels = rng.integers(0, 256, 3) + rng.normal(0, 12, (40, 48, 3))
            picture = Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))
            picture.save(folder / name / f"{index}.png")
    return mv.data.open_source(f"folder:{folder}")


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    """A training through `training.Run`; returns its folder and the model."""
    keras.utils.set_random_seed(0)
    task = MeanColour()
    folder = tmp_path_factory.mktemp("runs") / "colour"
    model = MeanColourModel(build_tiny().backbone, preprocessing=mv.Preprocessing(32, 32))
    mv.training.Run(
        task,
        model,
        mv.data.MultiScaleDataset(
            source, sizes=(32, 40), base_size=32, batch_size=8, prepare=task.prepare(model)
        ),
        mv.data.EvaluationDataset(source, crop_size=32, prepare=task.prepare(model)),
        mv.training.Recipe(epochs=6, peak_learning_rate=0.01, ema_decay=0.9),
        folder,
        verbose=0,
    ).fit()
    return folder, model


def test_it_trains(run):
    folder, model = run
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert float(rows[-1]["val_closeness"]) > float(rows[0]["val_closeness"])
    assert Image.open(folder / "curves.png").size[0] > 600
    loaded = keras.models.load_model(folder / "model.keras")
    x = np.random.default_rng(0).random((2, 32, 32, 3), "float32")
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize(
    ("name", "export", "runner"),
    [
        ("model.tflite", mv.export_tflite, run_tflite),
        pytest.param("tfjs", mv.export_tfjs, run_tfjs, marks=pytest.mark.tfjs),
    ],
)
def test_its_files_are_run_compared_and_evaluated(run, source, tmp_path, name, export, runner):
    folder, model = run
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    images *= np.array([[1.0, 0.2, 0.5], [0.1, 0.9, 0.3], [0.7, 0.7, 0.1], [0.2, 0.3, 1.0]])[
        :, None, None
    ]
    expected = np.asarray(model(images / 255.0))
    assert np.ptp(expected, axis=0).min() > 0.01
    path = tmp_path / name
    report = export(model, path, 32, images=images)
    assert report["task"] == "mean_colour"
    assert report["parity"]["max_abs_difference"] < 1e-3
    outputs = runner(path, images).outputs
    assert list(outputs) == ["colour"]
    np.testing.assert_allclose(outputs["colour"], expected, atol=1e-3)
    measured = evaluate(open_predictor(path), source).summary()
    trained = evaluate(open_predictor(folder / "model.keras"), source).summary()
    assert measured["closeness"] == pytest.approx(trained["closeness"], abs=1e-3)
    json.dumps(measured)


def test_a_wrong_file_of_it_is_refused(run, tmp_path, monkeypatch):
    """The task's own comparison decides."""
    _, model = run
    images = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    images[..., 0] *= 0.1
    monkeypatch.setattr(
        "tests.tasks.mean_colour.Difference.problem", lambda self, *_: "The colours differ."
    )
    with pytest.raises(mv.tasks.CheckError, match="The colours differ"):
        mv.export_tflite(model, tmp_path / "wrong.tflite", 32, images=images)
    assert not (tmp_path / "wrong.tflite").exists()
