"""Files that also say where in an image their answer comes from, and who takes them."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from mobilevit_keras.description import read_description
from mobilevit_keras.export import (
    CheckError,
    export_tfjs,
    export_tflite,
    run_tfjs,
    run_tflite,
    tfjs,
    tflite,
)
from mobilevit_keras.export.metadata_schema import metadata_schema
from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.export.structure import check_structure, inspect_tflite
from mobilevit_keras.export.tflite_runner import open_interpreter
from mobilevit_keras.quantization import quantize_aware
from mobilevit_keras.tasks import Classification
from tests.tiny import (
    build_tiny,
    build_tiny_detector,
    build_tiny_segmenter,
    coloured_images,
    load_tiny,
    tell_images_apart,
)

pytestmark = pytest.mark.slow

SIZE = (64, 96)
NAMES = ("eins", "zwei", "drei")
# Whole numbers: between two bytes file and model may round to either side.
IMAGES = coloured_images(8, *SIZE, seed=1)
TASK = Classification().with_heat_map()
SHAPE = [1, 2, 3, 3]
OUTPUTS = [
    {"name": "probabilities", "dtype": "float32", "shape": [1, 3]},
    {"name": "heat_map", "dtype": "float32", "shape": SHAPE},
]


@pytest.fixture(scope="module")
def model():
    return load_tiny(class_names=NAMES)


@pytest.fixture(scope="module")
def twin(model):
    return quantize_aware(model, IMAGES / 255.0)


@pytest.fixture(scope="module")
def exports(model, twin, tmp_path_factory):
    """The folder of all files, and their reports by name."""
    folder, reports = tmp_path_factory.mktemp("heat_maps"), {}
    for precision in ("float32", "float16", "dynamic", "int8", "int8_full"):
        calibration = IMAGES if precision.startswith("int8") else None
        path = folder / f"{precision}.tflite"
        reports[path.name] = export_tflite(
            model, path, SIZE, precision, IMAGES, calibration, heat_map=True
        )
    reports["trained.tflite"] = export_tflite(
        twin, folder / "trained.tflite", SIZE, "int8", IMAGES, input_type="uint8", heat_map=True
    )
    return folder, reports


def test_maps_are_those_of_keras_and_their_mean_the_logits(model, twin, exports):
    folder, reports = exports
    of_float, of_twin = (keras_outputs(each, TASK, IMAGES) for each in (model, twin))
    assert of_float["heat_map"].shape == (8, *SHAPE[1:])
    spread = of_float["heat_map"].std()
    for name, share in (
        ("float32", 1e-4),
        ("float16", 0.02),
        ("dynamic", 0.1),
        ("int8", 0.2),
        ("trained", 0.2),
        ("int8_full", 0.3),
    ):
        answers = run_tflite(folder / f"{name}.tflite", IMAGES).outputs
        expected = of_twin if name in ("int8", "trained") else of_float
        difference = np.sqrt(np.mean((answers["heat_map"] - expected["heat_map"]) ** 2))
        assert difference < share * spread, name
        # Within the file: softmax of the maps' mean are its probabilities.
        logits = answers["heat_map"].mean(axis=(1, 2))
        exponents = np.exp(logits - logits.max(-1, keepdims=True))
        found = exponents / exponents.sum(-1, keepdims=True)
        tolerance = {"float32": 1e-5, "float16": 0.01}.get(name, 0.1)
        np.testing.assert_allclose(found, answers["probabilities"], atol=tolerance)
    for report in reports.values():
        assert report["parity"]["heat_map_relative_difference"] < 0.3
        assert report["outputs"] == OUTPUTS


def test_probabilities_are_those_of_the_file_without(model, exports, tmp_path):
    for precision, calibration in (("float32", None), ("int8", IMAGES)):
        path = tmp_path / f"{precision}.tflite"
        export_tflite(model, path, SIZE, precision, IMAGES, calibration)
        plain = run_tflite(path, IMAGES).outputs
        assert list(plain) == ["probabilities"]
        answers = run_tflite(exports[0] / path.name, IMAGES).outputs["probabilities"]
        np.testing.assert_allclose(answers, plain["probabilities"], atol=1e-6)


def test_files_say_that_the_map_is_there_and_give_it_last(exports):
    for name in exports[1]:
        path = exports[0] / name
        assert read_description(path)["outputs"] == OUTPUTS
        first, second = open_interpreter(path).get_output_details()
        assert (list(first["shape"]), list(second["shape"])) == ([1, 3], SHAPE)
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
        (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
        buffer = bytes(model.buffers[entry.buffer].data)
        metadata = metadata_schema()
        root = metadata.ModelMetadataT.InitFromObj(metadata.ModelMetadata.GetRootAs(buffer, 0))
        outputs = root.subgraphMetadata[0].outputTensorMetadata
        assert [output.name for output in outputs] == [b"probabilities", b"heat_map"]
        assert [len(output.associatedFiles or []) for output in outputs] == [1, 0]


@pytest.mark.parametrize("name", ["float32", "float16", "dynamic", "int8", "trained"])
def test_every_delegate_takes_the_file(exports, name):
    structure = inspect_tflite(exports[0] / f"{name}.tflite")
    assert (structure.xnnpack_partitions, structure.max_rank) == (1, 4)
    if name in ("int8", "trained"):
        # All but the scores at each place, of which float is asked.
        _, heat_map = open_interpreter(exports[0] / f"{name}.tflite").get_output_details()
        assert structure.float_convolutions == (heat_map["name"],)
        with pytest.raises(CheckError, match="must compute in int8"):
            check_structure(structure, is_int8=True, may_leave=("QUANTIZE",))


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_mediapipe_still_takes_it(exports, name):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    path = exports[0] / f"{name}.tflite"
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    # MediaPipe reads memory as it lies.
    pixels = np.ascontiguousarray(IMAGES, np.uint8)
    expected = run_tflite(path, IMAGES).outputs["probabilities"]
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image, probabilities in zip(pixels, expected, strict=True):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            first = classifier.classify(image).classifications[0]
            assert first.head_name == "probabilities"
            scores = {category.category_name: category.score for category in first.categories}
            np.testing.assert_allclose([scores[name] for name in NAMES], probabilities, atol=1e-3)


def test_mobilevit_v2_has_one_too(tmp_path):
    separable = {"attention": "separable", "num_heads": 1, "use_fusion": False}
    model = tell_images_apart(build_tiny(3, **separable))
    for precision, calibration in (("float32", None), ("int8", IMAGES)):
        path = tmp_path / f"{precision}.tflite"
        report = export_tflite(model, path, SIZE, precision, IMAGES, calibration, heat_map=True)
        assert report["structure"]["xnnpack_partitions"] == 1
        assert report["outputs"][1]["name"] == "heat_map"


@pytest.mark.tfjs
def test_tfjs_gives_it_too(model, tmp_path):
    report = export_tfjs(model, tmp_path / "tfjs", SIZE, images=IMAGES, heat_map=True)
    assert report["outputs"] == OUTPUTS == read_description(tmp_path / "tfjs")["outputs"]
    expected = keras_outputs(model, TASK, IMAGES)
    for backend in ("wasm", "cpu"):
        answers = run_tfjs(tmp_path / "tfjs", IMAGES, backend).outputs
        for name, values in expected.items():
            np.testing.assert_allclose(answers[name], values, atol=1e-3)


@pytest.mark.parametrize("kind", ["tflite", pytest.param("tfjs", marks=pytest.mark.tfjs)])
def test_a_wrong_map_is_not_left(model, tmp_path, monkeypatch, kind):
    right = keras_outputs(model, TASK, IMAGES)
    mirrored = right | {"heat_map": right["heat_map"][:, :, ::-1]}
    module, export = {"tflite": (tflite, export_tflite), "tfjs": (tfjs, export_tfjs)}[kind]
    monkeypatch.setattr(module, "keras_outputs", lambda *_: mirrored)
    path = tmp_path / ("model.tflite" if kind == "tflite" else "tfjs")
    with pytest.raises(CheckError, match="Of the heat map: The file's"):
        export(model, path, SIZE, images=IMAGES, heat_map=True)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("build", [build_tiny_segmenter, build_tiny_detector])
def test_other_tasks_have_none(build, tmp_path):
    for export, name in ((export_tflite, "out.tflite"), (export_tfjs, "out")):
        with pytest.raises(ValueError, match="Only a classifier's file has a heat map. Received: "):
            export(build(), tmp_path / name, 64, heat_map=True)
    assert not any(tmp_path.iterdir())
