"""Accuracy of models in every format on labelled images."""

import dataclasses
import json

import numpy as np
import pytest

from mobilevit_keras.data import decode_image, open_source
from mobilevit_keras.description import report_path, write_archive
from mobilevit_keras.evaluation import evaluate, open_predictor
from mobilevit_keras.export import export_tflite
from mobilevit_keras.export.check_images import generated_images
from mobilevit_keras.models import Preprocessing
from mobilevit_keras.tasks import get_task
from tests.masks import NAMES as SCENE_NAMES
from tests.masks import png, write_scenes
from tests.photos import write_coloured_photos
from tests.tiny import build_tiny, build_tiny_segmenter, load_tiny

NAMES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for split in ("train", "validation"):
        write_coloured_photos(folder / split, {"red": 0, "green": 1, "blue": 2}, 3)
    return open_source(f"folder:{folder}")


def save(folder, **arguments):
    path = folder / "model.keras"
    preprocessing = {"short_side": 36, "crop_size": 32}
    build_tiny(preprocessing=preprocessing, **arguments).save(path)
    return path


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (("red", "green", "blue"), "in the same order. Received: class 0 is 'red' in"),
        (("blue", "green", "pink"), "of the same names. Received: class 2 is 'pink' in"),
    ],
)
def test_other_classes_or_another_order_give_no_accuracy(source, tmp_path, names, part):
    predictor = open_predictor(save(tmp_path, class_names=names))
    with pytest.raises(ValueError, match=part):
        evaluate(predictor, source)


@pytest.mark.parametrize("names", [NAMES, ("0", "1", "2"), None])
def test_the_same_names_and_numbers_are_compared(source, tmp_path, names):
    predictor = open_predictor(save(tmp_path, class_names=names))
    assert evaluate(predictor, source).summary()["images"] == 9


def test_another_number_of_classes(source, tmp_path):
    predictor = open_predictor(save(tmp_path, num_classes=4))
    with pytest.raises(ValueError, match="with 4, .* with 3"):
        evaluate(predictor, source)


def test_unequal_sides_are_evaluated_as_they_are(source, tmp_path):
    size = (64, 48)
    model = load_tiny(class_names=NAMES, preprocessing={"short_side": 36, "crop_size": 32})
    report = export_tflite(
        model, tmp_path / "model.tflite", size, images=generated_images(*size, count=2)
    )
    assert report["preprocessing"]["short_side"] == 54
    predictor = open_predictor(tmp_path / "model.tflite")
    assert predictor.size == size
    assert predictor.preprocessing == Preprocessing(54, 48)
    assert evaluate(predictor, source).summary()["images"] == 9
    for wrong in (48, 64):
        with pytest.raises(ValueError, match="one size, here 64x48"):
            open_predictor(tmp_path / "model.tflite", wrong)


def test_stretched_images_are_evaluated_stretched(source, tmp_path):
    size = (64, 48)
    model = load_tiny(
        class_names=NAMES, preprocessing={"crop_size": list(size), "resize": "stretch"}
    )
    model.save(tmp_path / "model.keras")
    export_tflite(model, tmp_path / "model.tflite", size, images=generated_images(*size, count=2))
    expected = [
        np.asarray(model.preprocess(decode_image(record["image"]).numpy()))
        for record in source.examples("validation")
    ]
    for name in ("model.keras", "model.tflite"):
        predictor = open_predictor(tmp_path / name)
        assert predictor.size == size
        assert predictor.preprocessing == model.preprocessing
        seen = []

        def note(batches, run=predictor.run, seen=seen):
            return run(seen.append(images) or images for images in batches)

        evaluate(dataclasses.replace(predictor, run=note), source)
        np.testing.assert_allclose(np.concatenate(seen), np.concatenate(expected), atol=1e-5)


def test_a_report_of_an_earlier_version_is_read(source, tmp_path):
    """Its preprocessing was the larger side's, and the names lay beside all files of a folder."""
    model = load_tiny(preprocessing={"short_side": 36, "crop_size": 32})
    path = tmp_path / "model.tflite"
    export_tflite(model, path, (64, 48), images=generated_images(64, 48, count=2))
    write_archive(path, {})
    with pytest.raises(ValueError, match="must have"):
        report_path(path).write_text("{}")
        open_predictor(path)
    preprocessing = {"short_side": 72, "crop_size": 64, "interpolation": "bilinear"}
    old = {"variant": "custom", "num_classes": 3, "size": [64, 48], "precision": "float32"}
    report_path(path).write_text(json.dumps({**old, "preprocessing": preprocessing}))
    assert open_predictor(path).preprocessing == Preprocessing(54, 48)
    for names, expected in (("red\ngreen\nblue\n", ("red", "green", "blue")), ("a\n", "012")):
        (tmp_path / "labels.txt").write_text(names)
        assert open_predictor(path).class_names == tuple(expected)


@pytest.mark.parametrize(("count", "shares"), [(8, {1: 0.0, 2: 1 / 3, 3: 2 / 3, 8: 1.0})])
def test_top_k_counts_the_k_most_probable(count, shares):
    """With more classes than k, so that k makes a difference."""
    meter = get_task("classification").meter(None)
    rows = np.tile(np.linspace(0.0, 1.0, count), (3, 1))
    meter.update({"probabilities": rows}, np.array([6, 5, 0]))
    assert {k: meter.top(k) for k in shares} == pytest.approx(shares)
    # A tie goes to the lower class.
    tied = get_task("classification").meter(None)
    tied.update({"probabilities": np.full((1, 4), 0.25)}, np.array([1]))
    assert (tied.top(1), tied.top(2)) == (0.0, 1.0)


def test_where_no_image_can_be_used_the_first_ones_say_why(tmp_path):
    write_scenes(tmp_path, 8)
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(png(np.full((9, 9), 1, np.uint8)))
    build_tiny_segmenter(class_names=SCENE_NAMES).save(tmp_path / "model.keras")
    predictor = open_predictor(tmp_path / "model.keras", 32)
    with pytest.raises(ValueError, match=r"can be read; .*jpg \(its mask has 9 x 9 pixels, and"):
        evaluate(predictor, open_source(f"masks:{tmp_path}"))


def test_only_what_is_compared_is_kept(source, tmp_path):
    """A heat map of a thousand classes is larger than the image that it is of."""
    path = save(tmp_path, class_names=NAMES)
    predictor = open_predictor(path)

    def run(batches):
        for results in predictor.run(batches):
            count = len(results.milliseconds)
            heat_map = np.zeros((count, 2, 2, 3), np.float32)
            yield dataclasses.replace(results, outputs={**results.outputs, "heat_map": heat_map})

    file = dataclasses.replace(predictor, run=run)
    kept = evaluate(file, source, keep_outputs=True).outputs
    assert list(kept) == ["probabilities"]
    np.testing.assert_array_equal(
        kept["probabilities"],
        evaluate(predictor, source, keep_outputs=True).outputs["probabilities"],
    )
    with_maps = dataclasses.replace(file, task=file.task.with_heat_map())
    assert list(evaluate(with_maps, source, keep_outputs=True).outputs) == [
        "probabilities",
        "heat_map",
    ]
