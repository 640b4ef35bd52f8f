"""Both formats, written once and run by their runtimes."""

import contextlib
import json
import resource
import shutil

import numpy as np
import pytest

from mobilevit_keras.description import labels_path, read_description, report_path
from mobilevit_keras.export import (
    CheckError,
    export_tfjs,
    export_tflite,
    run_tfjs,
    run_tflite,
    tfjs,
    tflite,
)
from mobilevit_keras.export.report import num_parameters, record_accuracy
from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.files import MARK_FILE
from mobilevit_keras.tasks import get_task
from tests.export.wrong_files import wrong_answers
from tests.tiny import build_tiny, coloured_images, load_tiny, tell_images_apart

SIZE = (64, 96)
NAMES = ("eins", "zwei", "drei")
TASK = get_task("classification")


@pytest.fixture(scope="module")
def model():
    return load_tiny(class_names=NAMES)


@pytest.fixture(scope="module")
def images():
    return coloured_images(8, *SIZE, seed=1)


@pytest.fixture(scope="module")
def tflite_exports(model, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tflite_exports")
    reports = {
        "model.tflite": export_tflite(model, folder / "model.tflite", SIZE, images=images),
        "half.tflite": export_tflite(model, folder / "half.tflite", SIZE, "float16", images),
    }
    return folder, reports


@pytest.fixture(scope="module")
def tfjs_exports(model, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfjs_exports")
    reports = {
        "tfjs": export_tfjs(model, folder / "tfjs", SIZE, images=images),
        "tfjs_uint8": export_tfjs(model, folder / "tfjs_uint8", SIZE, "uint8", images),
    }
    return folder, reports


@pytest.fixture(
    scope="module", params=["tflite_exports", pytest.param("tfjs_exports", marks=pytest.mark.tfjs)]
)
def exports(request):
    """Folder and reports by file name of one format, then of the other."""
    return request.getfixturevalue(request.param)


def probabilities(path, images):
    run = run_tfjs if path.is_dir() else run_tflite
    return run(path, images).outputs["probabilities"]


def test_answers_are_those_of_keras(model, images, exports):
    folder, reports = exports
    expected = keras_outputs(model, TASK, images)["probabilities"]
    assert np.ptp(expected, axis=0).min() > 0.1
    for name, report in reports.items():
        tolerance = {"float32": 1e-4, "float16": 1e-2, "uint8": 0.1}[report["precision"]]
        np.testing.assert_allclose(probabilities(folder / name, images), expected, atol=tolerance)


@pytest.mark.tfjs
def test_tfjs_answers_in_batches_and_on_its_plain_backend(model, images, tfjs_exports):
    expected = keras_outputs(model, TASK, images)["probabilities"]
    batches = [images[:3], images[3:]]
    answer = run_tfjs(tfjs_exports[0] / "tfjs", batches, "cpu").outputs["probabilities"]
    np.testing.assert_allclose(answer, expected, atol=1e-4)


def test_a_wrong_file_is_found_out(model, images, exports):
    folder, reports = exports
    expected = keras_outputs(model, TASK, images)
    for name, report in reports.items():
        path = folder / name
        key = ("tfjs" if path.is_dir() else "tflite", report["precision"])
        for fault, answers in wrong_answers(lambda x, path=path: probabilities(path, x), images):
            comparison = TASK.compare(expected, {"probabilities": answers})
            assert comparison.problem(*key) is not None, (name, fault)


def test_reports_hold_what_was_measured(model, exports):
    folder, reports = exports
    for name, report in reports.items():
        assert json.loads(report_path(folder / name).read_text("utf-8")) == report
        assert report["size"] == list(SIZE)
        assert report["class_names"] == list(NAMES)
        assert report["variant"] == "custom"
        assert report["parameters"] == sum(np.prod(w.shape) for w in model.trainable_weights)
        assert report["parity"]["images"] == 8
        assert report["parity"]["differing_images"] == 8
        assert report["parity"]["top1_agreement"] == 1.0
        assert report["accuracy"] is None


def test_reports_of_tflite_files_hold_their_structure(tflite_exports):
    folder, reports = tflite_exports
    assert reports["model.tflite"]["bytes"] == (folder / "model.tflite").stat().st_size
    assert reports["half.tflite"]["bytes"] < 0.8 * reports["model.tflite"]["bytes"]
    assert reports["model.tflite"]["structure"]["xnnpack_partitions"] == 1
    assert reports["model.tflite"]["structure"]["max_rank"] == 4


def test_files_say_what_they_are(exports):
    folder, reports = exports
    for name, report in reports.items():
        description = read_description(folder / name)
        assert description == {k: report[k] for k in report.keys() - {"format", "file", "bytes"}}
        assert description["task"] == "classification"
        assert description["preprocessing"] == {
            "short_side": 72,
            "crop_size": 64,
            "interpolation": "bilinear",
            "resize": "crop",
        }
        assert description["outputs"] == [
            {"name": "probabilities", "dtype": "float32", "shape": [1, 3]}
        ]


@pytest.mark.slow
def test_a_second_model_changes_nothing_for_the_first(tflite_exports, images, tmp_path):
    shutil.copy(tflite_exports[0] / "model.tflite", tmp_path / "first.tflite")
    shutil.copy(tflite_exports[0] / "model.labels.txt", tmp_path / "first.labels.txt")
    before = (tmp_path / "first.tflite").read_bytes()
    other = tell_images_apart(build_tiny(4, class_names=("a", "b", "c", "d")))
    export_tflite(other, tmp_path / "second.tflite", SIZE, images=images)
    assert (tmp_path / "first.tflite").read_bytes() == before
    assert read_description(tmp_path / "first.tflite")["class_names"] == list(NAMES)
    assert (tmp_path / "first.labels.txt").read_text("utf-8").splitlines() == list(NAMES)
    assert read_description(tmp_path / "second.tflite")["class_names"] == ["a", "b", "c", "d"]


def test_frozen_parameters_are_counted():
    model = build_tiny()
    count = sum(np.prod(w.shape) for w in model.trainable_weights)
    model.backbone.trainable = False
    assert num_parameters(model) == count > sum(np.prod(w.shape) for w in model.trainable_weights)


@pytest.mark.tfjs
def test_no_tfjs_product_transposes(tfjs_exports):
    """TF.js's WASM backend computes those in a naive loop, ten times slower."""
    description = json.loads((tfjs_exports[0] / "tfjs" / "model.json").read_text("utf-8"))
    nodes = description["modelTopology"]["node"]
    products = [node for node in nodes if node["op"].startswith("BatchMatMul")]
    assert products
    assert not any(node["attr"][name]["b"] for node in products for name in ("adj_x", "adj_y"))


def test_labels_lie_beside(exports):
    folder, reports = exports
    for name in reports:
        assert labels_path(folder / name).read_text("utf-8").splitlines() == list(NAMES)
    assert labels_path(folder / "model.tflite").name == "model.labels.txt"
    assert not (folder / "labels.txt").exists()


def test_runners_refuse_other_sizes(exports):
    folder, reports = exports
    for name in reports:
        run = run_tfjs if (folder / name).is_dir() else run_tflite
        with pytest.raises(ValueError, match=r"must be \(N, 64, 96, 3\)"):
            images = np.zeros((1, 32, 32, 3), np.float32)
            run(folder / name, [images] if run is run_tfjs else images)


def test_accuracy_is_recorded(exports, images, tmp_path):
    folder, reports = exports
    for name in reports:
        path = tmp_path / name
        if (folder / name).is_dir():
            shutil.copytree(folder / name, path)
        else:
            shutil.copy(folder / name, path)
            shutil.copy(report_path(folder / name), report_path(path))
        before = probabilities(path, images)
        for top1 in (0.5, 0.25):
            record_accuracy(path, {"top1": top1, "top5": 1.0}, 10)
            accuracy = {"top1": top1, "top5": 1.0, "images": 10}
            assert read_description(path)["accuracy"] == accuracy
            report = json.loads(report_path(path).read_text("utf-8"))
            assert report["accuracy"] == accuracy and report["file"] == name
        np.testing.assert_array_equal(probabilities(path, images), before)
    assert not [file for file in tmp_path.rglob("*") if file.name.startswith(".partial")]


def test_a_file_that_differs_is_not_left(model, images, exports, tmp_path, monkeypatch):
    folder, reports = exports
    name = next(iter(reports))
    is_tfjs = (folder / name).is_dir()
    module, export = (tfjs, export_tfjs) if is_tfjs else (tflite, export_tflite)

    def convert(kind, saved_model, output, options):
        if is_tfjs:
            shutil.copytree(folder / name, output, dirs_exist_ok=True)
        else:
            shutil.copyfile(folder / name, output)

    expected = keras_outputs(model, TASK, images)["probabilities"]
    monkeypatch.setattr(module, "convert", convert)
    monkeypatch.setattr(module, "keras_outputs", lambda *_: {"probabilities": expected[:, ::-1]})
    monkeypatch.setattr(tflite, "add_metadata", lambda content, *_: content)
    if not is_tfjs:
        (tmp_path / name).write_bytes(b"old")
    with pytest.raises(CheckError, match="must agree"):
        export(model, tmp_path / name, SIZE, images=images)
    if not is_tfjs:
        assert (tmp_path / name).read_bytes() == b"old"
        (tmp_path / name).unlink()
    assert not any(tmp_path.iterdir())


@contextlib.contextmanager
def _full_disk():
    """No file may grow far: what a full disk looks like, for this process and its children."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_old_file(model, images, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"old")
    with _full_disk(), pytest.raises(OSError):
        export_tflite(model, tmp_path / "model.tflite", SIZE, images=images)
    assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
    assert (tmp_path / "model.tflite").read_bytes() == b"old"


@pytest.mark.tfjs
@pytest.mark.slow
def test_a_disk_that_the_converter_fills_leaves_nothing(model, images, tmp_path, monkeypatch):
    convert = tfjs.convert

    def convert_on_a_full_disk(*arguments, **options):
        with _full_disk():
            return convert(*arguments, **options)

    monkeypatch.setattr(tfjs, "convert", convert_on_a_full_disk)
    with pytest.raises(OSError, match="Cannot write.*group1-shard1of1.bin"):
        export_tfjs(model, tmp_path / "tfjs", SIZE, images=images)
    assert not any(tmp_path.iterdir())


def test_arguments_are_checked(model, tmp_path):
    for export, name in ((export_tflite, "out.tflite"), (export_tfjs, "out")):
        with pytest.raises(ValueError, match="`size` must be at least 32 pixels. Received: 16x16"):
            export(model, tmp_path / name, 16)
        with pytest.raises(ValueError, match="`precision` must be one of .*Received: 'float8'"):
            export(model, tmp_path / name, 64, "float8")
        with pytest.raises(ValueError, match="Images must be"):
            export(model, tmp_path / name, 64, images=np.zeros((1, 32, 32, 3)))
        with pytest.raises(FileNotFoundError, match="no image file or folder"):
            export(model, tmp_path / name, 64, images=tmp_path / "nothing")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/one.txt").write_text("dear")
    # Another's TF.js model, and nothing of ours.
    (tmp_path / "letters/model.json").write_text('{"weightsManifest": []}')
    with pytest.raises(ValueError, match="new or empty folder.*also holds model.json, one.txt"):
        export_tfjs(model, tmp_path / "letters", 64)
    with pytest.raises(ValueError, match="must end in .tflite. Received: .*letters.$"):
        export_tflite(model, tmp_path / "letters", 64)
    assert sorted(file.name for file in (tmp_path / "letters").iterdir()) == [
        "model.json",
        "one.txt",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["letters"]


@pytest.mark.tfjs
@pytest.mark.slow
def test_a_tfjs_model_of_an_earlier_version_is_replaced(model, images, tfjs_exports, tmp_path):
    shutil.copytree(tfjs_exports[0] / "tfjs", tmp_path / "tfjs")
    (tmp_path / "tfjs" / MARK_FILE).unlink()
    model_json = json.loads((tmp_path / "tfjs/model.json").read_text("utf-8"))
    del model_json["userDefinedMetadata"]
    (tmp_path / "tfjs/model.json").write_text(json.dumps(model_json))
    (tmp_path / "tfjs/CNAME").touch()
    with pytest.raises(ValueError, match="also holds CNAME"):
        export_tfjs(model, tmp_path / "tfjs", SIZE, images=images)
    (tmp_path / "tfjs/CNAME").unlink()
    export_tfjs(model, tmp_path / "tfjs", SIZE, "float16", images=images)
    assert json.loads((tmp_path / "tfjs/report.json").read_text("utf-8"))["precision"] == "float16"
