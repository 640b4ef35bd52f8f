"""Segmenters' files of both formats in every precision, and the runtimes that take them."""

import json

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from mobilevit_keras.description import labels_path, read_description
from mobilevit_keras.export import export_tfjs, export_tflite, run_tfjs, run_tflite
from mobilevit_keras.export.metadata_schema import metadata_schema
from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.export.structure import inspect_tflite
from mobilevit_keras.export.tflite_runner import open_interpreter
from mobilevit_keras.metrics import class_masks
from mobilevit_keras.quantization import quantize_aware
from mobilevit_keras.tasks import get_task
from tests.export.wrong_files import wrong_maps
from tests.tiny import load_tiny_segmenter, patched_images

pytestmark = pytest.mark.slow

SIZE = (64, 96)
NAMES = ("röt", "grün", "blau")
# Whole numbers: between two bytes file and model may round to either side.
IMAGES, _ = patched_images(8, *SIZE, seed=1)
TASK = get_task("segmentation")
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8_full")


@pytest.fixture(scope="module")
def model():
    return load_tiny_segmenter(
        class_names=NAMES, preprocessing={"resize": "stretch", "crop_size": SIZE}
    )


@pytest.fixture(scope="module")
def twin(model):
    return quantize_aware(model, IMAGES / 255.0)


@pytest.fixture(scope="module")
def exports(model, twin, tmp_path_factory):
    """The folder of all files, and their reports by name."""
    folder, reports = tmp_path_factory.mktemp("segmenters"), {}
    for precision in PRECISIONS:
        calibration = IMAGES if precision.startswith("int8") else None
        reports[f"{precision}.tflite"] = export_tflite(
            model, folder / f"{precision}.tflite", SIZE, precision, IMAGES, calibration
        )
    reports["trained.tflite"] = export_tflite(
        twin, folder / "trained.tflite", SIZE, "int8", IMAGES, input_type="uint8"
    )
    return folder, reports


def segmentation(path, images):
    run = run_tfjs if path.is_dir() else run_tflite
    return run(path, images).outputs["segmentation"]


def test_answers_are_those_of_keras(model, twin, exports):
    folder, reports = exports
    expected = keras_outputs(model, TASK, IMAGES)["segmentation"]
    assert expected.shape == (8, 4, 6, 3)
    # Not every cell of one class, and no image like another.
    assert np.unique(expected.argmax(-1)).size == 3 and expected.std(axis=0).mean() > 0.5
    for name, tolerance in (("float32", 1e-4), ("float16", 0.05), ("dynamic", 0.5)):
        answers = segmentation(folder / f"{name}.tflite", IMAGES)
        np.testing.assert_allclose(answers, expected, atol=tolerance * expected.std())
    for report in reports.values():
        assert report["parity"]["images"] == report["parity"]["differing_images"] == 8
        assert report["parity"]["pixel_agreement"] > 0.95
        assert "float_parity" not in report or report["float_parity"]["mean_iou"] > 0.8


def test_the_file_of_a_quantization_aware_model_answers_as_it_does(twin, exports):
    expected = keras_outputs(twin, TASK, IMAGES)["segmentation"]
    answers = segmentation(exports[0] / "trained.tflite", IMAGES)
    # Whole numbers but for the attention, the norms and the mean, whose sums of floats differ: now
    # and then one lands on the other side of a rounding, and what follows of that image differs.
    step = float(twin.head.quantize_logits.step)
    codes = np.abs(answers - expected) / step
    assert np.ptp(expected) / step > 100
    assert np.sort(codes.max(axis=(1, 2, 3)))[-3] < 0.01
    assert codes.max() < 3.5


@pytest.mark.parametrize("name", ["int8", "trained"])
def test_int8_computes_convolutions_in_int8_and_the_rest_in_float(exports, name):
    path = exports[0] / f"{name}.tflite"
    structure = inspect_tflite(path)
    assert (structure.int8_share, structure.xnnpack_partitions) == (1.0, 1)
    interpreter = open_interpreter(path, use_xnnpack=False)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    nodes = interpreter._get_ops_details()
    for node in nodes:
        kinds = {tensors[index]["dtype"] for index in node["inputs"][:2]}
        # The mean of the whole map is the only one over two axes that is no norm's.
        if node["op_name"] in ("SOFTMAX", "RSQRT", "BATCH_MATMUL", "SQUARED_DIFFERENCE"):
            assert kinds == {np.float32}
    # All five branches are joined as they come: one grid, no step from another.
    (joined,) = [
        node for node in nodes if node["op_name"] == "CONCATENATION" and len(node["inputs"]) == 5
    ]
    grids = [tensors[index]["quantization"] for index in (*joined["inputs"], *joined["outputs"])]
    assert len(set(grids)) == 1 and grids[0][0] > 0
    makers = {int(node["outputs"][0]): node["op_name"] for node in nodes}
    assert [makers[int(index)] for index in joined["inputs"]] == ["CONV_2D"] * 4 + [
        "RESIZE_BILINEAR"
    ]
    (exit_,) = interpreter.get_output_details()
    assert exit_["dtype"] == np.float32


def test_every_precision_is_one_part_of_four_dimensions(exports):
    for name, report in exports[1].items():
        structure = report["structure"]
        assert structure["max_rank"] == 4, name
        if report["precision"] != "int8_full":
            assert structure["xnnpack_partitions"] == 1, name
            left = set(structure["left_operations"])
            assert left <= ({"QUANTIZE"} if name == "trained.tflite" else set()), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_wrong_file_is_found_out(model, twin, exports, precision):
    path = exports[0] / f"{precision}.tflite"
    expected = keras_outputs(twin if precision == "int8" else model, TASK, IMAGES)
    for fault, answers in wrong_maps(lambda images: segmentation(path, images), IMAGES):
        comparison = TASK.compare(expected, {"segmentation": answers})
        assert comparison.problem("tflite", precision) is not None, fault


def test_files_say_what_they_are(exports):
    folder, reports = exports
    for name, report in reports.items():
        description = read_description(folder / name)
        assert description == {k: report[k] for k in report.keys() - {"format", "file", "bytes"}}
        assert description["task"] == "segmentation"
        assert description["class_names"] == list(NAMES)
        assert description["preprocessing"]["resize"] == "stretch"
        assert description["preprocessing"]["crop_size"] == list(SIZE)
        assert description["outputs"] == [
            {
                "name": "segmentation",
                "dtype": "float32",
                "shape": [1, 4, 6, 3],
                "activation": "softmax",
            }
        ]
        labels = labels_path(folder / name).read_text("utf-8")
        assert labels.splitlines() == list(NAMES)
        json.dumps(report)


def test_the_metadata_leave_softmax_to_the_runtime(exports):
    metadata = metadata_schema()
    segmenter = metadata_schema("image_segmenter_metadata_schema")
    content = (exports[0] / "float32.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    buffer = bytes(model.buffers[entry.buffer].data)
    root = metadata.ModelMetadataT.InitFromObj(metadata.ModelMetadata.GetRootAs(buffer, 0))
    assert root.minParserVersion == b"1.5.0"
    (graph,) = root.subgraphMetadata
    (custom,) = graph.customMetadata
    assert custom.name == b"SEGMENTER_METADATA"
    options = segmenter.ImageSegmenterOptions.GetRootAs(bytes(custom.data), 0)
    assert options.Activation() == segmenter.Activation.SOFTMAX
    assert segmenter.ImageSegmenterOptions.ImageSegmenterOptionsBufferHasIdentifier(
        bytes(custom.data), 0
    )
    (output,) = graph.outputTensorMetadata
    assert (output.name, output.stats) == (b"segmentation", None)
    assert [file.name for file in output.associatedFiles] == [b"labels.txt"]


@pytest.mark.parametrize("name", ["float32", "trained"])
@pytest.mark.parametrize("size", [SIZE, (150, 130)])
def test_mediapipe_segments_with_the_file_alone(model, exports, name, size):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    path = exports[0] / f"{name}.tflite"
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=str(path)), output_category_mask=True
    )
    # Patches that meet in the middle. MediaPipe makes its category mask of logits that it enlarges
    # from corner to corner, not from centre to centre as for its confidence masks and as training
    # does: what lies near the image's edge is up to half a cell away from where it belongs.
    pixels, _ = patched_images(4, *size, seed=2, side=2)
    # MediaPipe reads memory as it lies.
    pixels = np.ascontiguousarray(pixels, np.uint8)
    logits = segmentation(path, np.rint(255.0 * model.preprocess(pixels)))
    expected = class_masks(logits, *size)
    assert len(np.unique(expected)) == 3
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        assert segmenter.labels == list(NAMES)
        for image, mask, of_image in zip(pixels, expected, logits, strict=True):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            result = segmenter.segment(image)
            category = result.category_mask.numpy_view().reshape(size)
            assert np.mean(category == mask) >= 0.99
            # Softmax has been applied, and then each class's share enlarged.
            exponents = np.exp(of_image - of_image.max(-1, keepdims=True))
            shares = tf.image.resize(exponents / exponents.sum(-1, keepdims=True), size)
            found = [np.squeeze(part.numpy_view()) for part in result.confidence_masks]
            assert np.mean(np.abs(np.stack(found, -1) - shares)) < 0.01


@pytest.mark.tfjs
def test_tfjs_answers_as_keras_does(model, tmp_path):
    expected = keras_outputs(model, TASK, IMAGES)["segmentation"]
    report = export_tfjs(model, tmp_path / "tfjs", SIZE, images=IMAGES)
    assert report["parity"]["pixel_agreement"] > 0.999
    for backend in ("wasm", "cpu"):
        answers = run_tfjs(tmp_path / "tfjs", IMAGES[:4], backend).outputs["segmentation"]
        np.testing.assert_allclose(answers, expected[:4], atol=1e-3)
    description = read_description(tmp_path / "tfjs")
    assert description["task"] == "segmentation" and description["class_names"] == list(NAMES)


@pytest.mark.slow
def test_stride_8_dilates_in_int8_too(tmp_path):
    """The depthwise convolution of stage 5 and all of ASPP's at once."""
    model = load_tiny_segmenter(output_stride=8)
    report = export_tflite(model, tmp_path / "model.tflite", 64, "int8", IMAGES_64, IMAGES_64)
    assert report["outputs"][0]["shape"] == [1, 8, 8, 3]
    assert report["structure"]["xnnpack_partitions"] == 1


IMAGES_64, _ = patched_images(8, 64, seed=3)
