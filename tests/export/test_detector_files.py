"""Detectors' files of both formats in every precision and form, and the runtimes that take them."""

import functools
import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from mobilevit_keras.boxes import BoxDecoding, overlaps, suppress, to_pixels
from mobilevit_keras.description import labels_path, read_description
from mobilevit_keras.export import CheckError, export_tfjs, export_tflite, run_tfjs, run_tflite
from mobilevit_keras.export.flatbuffer_edits import SUPPRESSION
from mobilevit_keras.export.metadata_schema import metadata_schema
from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.export.structure import check_structure, inspect_tflite
from mobilevit_keras.export.tflite_runner import open_interpreter
from mobilevit_keras.quantization import quantize_aware
from mobilevit_keras.tasks import get_task, task_of
from mobilevit_keras.tasks.detection_files import IN_FILE_RULES
from tests.export.wrong_files import wrong_detections
from tests.tiny import build_tiny, load_tiny_detector, object_images

pytestmark = pytest.mark.slow

SIZE = (64, 128)
NUM_ANCHORS = 268
NAMES = ("röt", "grün", "blau")
# Whole numbers: between two bytes file and model may round to either side.
IMAGES, _ = object_images(12, *SIZE, seed=1)
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8_full")
FILES = (*PRECISIONS, "trained")
IN_FILE = "in-file"


@pytest.fixture(scope="module")
def model():
    return load_tiny_detector(
        class_names=NAMES, preprocessing={"resize": "stretch", "crop_size": SIZE}
    )


@pytest.fixture(scope="module")
def task(model):
    return task_of(model).for_size(model, SIZE)


@pytest.fixture(scope="module")
def twin(model):
    return quantize_aware(model, IMAGES / 255.0)


@pytest.fixture(scope="module")
def export(model, twin, tmp_path_factory):
    """Returns a file's path and report by name: a precision, or "trained" of the aware model."""
    folder = tmp_path_factory.mktemp("detectors")

    @functools.cache
    def of_name(name, suppression="runtime"):
        is_trained = name == "trained"
        arguments = {"suppression": suppression}
        if name.startswith("int8"):
            arguments["calibration"] = IMAGES
        if is_trained and suppression == "runtime":
            arguments["input_type"] = "uint8"
        path = folder / f"{name}.{suppression}.tflite"
        precision = "int8" if is_trained else name
        return path, export_tflite(
            twin if is_trained else model, path, SIZE, precision, IMAGES, **arguments
        )

    return of_name


def answers(path, images):
    return (run_tfjs if path.is_dir() else run_tflite)(path, images).outputs


@pytest.mark.parametrize(
    ("name", "tolerance"), [("float32", 1e-4), ("float16", 0.05), ("dynamic", 0.5)]
)
def test_answers_are_those_of_keras(model, task, export, name, tolerance):
    expected = keras_outputs(model, task, IMAGES)
    assert expected["location"].shape == (12, NUM_ANCHORS, 4)
    assert expected["score"].shape == (12, NUM_ANCHORS, 3)
    found = answers(export(name)[0], IMAGES)
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, atol=tolerance * values.std())


@pytest.mark.parametrize("name", FILES)
def test_it_finds_what_keras_finds(export, name):
    parity = export(name)[1]["parity"]
    assert parity["images"] == parity["differing_images"] == 12
    assert parity["clear_boxes"] > 15
    assert parity["box_agreement"] > 0.95 and parity["mean_iou"] > 0.9


def test_the_file_of_a_quantization_aware_model_answers_as_it_does(twin, task, export):
    expected = keras_outputs(twin, task, IMAGES)
    found = answers(export("trained")[0], IMAGES)
    # Whole numbers but for the attention, the norms and the mean, whose sums of floats differ: now
    # and then one lands on the other side of a rounding, and what follows of that image differs.
    step = float(twin.get_layer("boxes_quantizer").step)
    codes = np.abs(found["location"] - expected["location"]) / step
    assert np.ptp(expected["location"]) / step > 100
    assert np.sort(codes.max(axis=(1, 2)))[-4] < 0.01
    # Of up to 255.
    assert codes.max() < 6


@pytest.mark.parametrize("name", ["int8", "trained"])
def test_boxes_and_classes_have_grids_of_their_own_in_int8(export, name):
    path, _ = export(name)
    structure = inspect_tflite(path)
    assert (structure.int8_share, structure.xnnpack_partitions) == (1.0, 1)
    interpreter = open_interpreter(path, use_xnnpack=False)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    nodes = interpreter._get_ops_details()
    for node in nodes:
        if node["op_name"] in ("SOFTMAX", "RSQRT", "BATCH_MATMUL", "SQUARED_DIFFERENCE"):
            assert {tensors[index]["dtype"] for index in node["inputs"][:2]} == {np.float32}
    # All six maps' are joined as they come: one grid, no step from another. The two large ones with
    # what the four small ones were joined to.
    joins = {int(n["outputs"][0]): n for n in nodes if n["op_name"] == "CONCATENATION"}
    small = {index for index, join in joins.items() if len(join["inputs"]) == 4}
    grids = [
        {
            tensors[index]["quantization"]
            for number in (int(join["inputs"][2]), output)
            for index in (*joins[number]["inputs"], *joins[number]["outputs"])
        }
        for output, join in joins.items()
        if len(join["inputs"]) == 3 and int(join["inputs"][2]) in small
    ]
    assert [len(grid) for grid in grids] == [1, 1] and grids[0] != grids[1]
    assert all(step > 0 for grid in grids for step, _ in grid)
    assert {exit_["dtype"] for exit_ in interpreter.get_output_details()} == {np.float32}


@pytest.mark.parametrize("name", FILES)
def test_boxes_come_as_the_convolutions_give_them(export, name):
    """No operation exchanges their numbers, which LiteRT's WebGPU backend would leave out."""
    interpreter = open_interpreter(export(name)[0], use_xnnpack=False)
    makers = {int(index): n for n in interpreter._get_ops_details() for index in n["outputs"]}
    wanted = [
        int(exit_["index"])
        for exit_ in interpreter.get_output_details()
        if tuple(exit_["shape"]) == (1, NUM_ANCHORS, 4)
    ]
    seen, convolutions = set(), set()
    while wanted:
        node = makers.get(wanted.pop())
        if node is None:
            continue
        if node["op_name"] == "CONV_2D":
            convolutions.add(int(node["outputs"][0]))
        else:
            seen.add(node["op_name"])
            wanted.extend(int(index) for index in node["inputs"])
    assert len(convolutions) == 6
    # The product is the one that keeps int8's in float.
    assert {"CONCATENATION", "RESHAPE"} <= seen
    assert seen <= {"CONCATENATION", "RESHAPE", "MUL", "DEQUANTIZE", "QUANTIZE"}


@pytest.mark.parametrize("name", FILES)
def test_every_precision_is_one_part_of_four_dimensions(export, name):
    structure = export(name)[1]["structure"]
    assert structure["max_rank"] == 4
    if name != "int8_full":
        assert structure["xnnpack_partitions"] == 1
        assert set(structure["left_operations"]) <= ({"QUANTIZE"} if name == "trained" else set())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_wrong_file_is_found_out(model, twin, task, export, precision):
    path, _ = export(precision)
    expected = keras_outputs(twin if precision == "int8" else model, task, IMAGES)
    for fault, wrong in wrong_detections(lambda images: answers(path, images), IMAGES):
        assert task.compare(expected, wrong).problem("tflite", precision) is not None, fault


@pytest.mark.parametrize("name", FILES)
def test_files_say_how_their_boxes_are_read(model, export, name):
    path, report = export(name)
    description = read_description(path)
    assert description == {k: report[k] for k in report.keys() - {"format", "file", "bytes"}}
    assert description["task"] == "detection"
    assert description["class_names"] == list(NAMES)
    assert [(o["name"], o["shape"]) for o in description["outputs"]] == [
        ("location", [1, NUM_ANCHORS, 4]),
        ("score", [1, NUM_ANCHORS, 3]),
    ]
    assert description["suppression"] == "runtime"
    assert description["decoding"]["variance"] == [0.1, 0.1, 0.2, 0.2]
    assert BoxDecoding.from_json(SIZE, description["decoding"]) == model.decoding(*SIZE)
    assert labels_path(path).read_text("utf-8").splitlines() == list(NAMES)
    json.dumps(report)
    read = get_task("detection").for_description(description)
    assert read.decoding == model.decoding(*SIZE) and not read.file.suppresses


def metadata_of(path):
    metadata = metadata_schema()
    content = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    buffer = bytes(model.buffers[entry.buffer].data)
    root = metadata.ModelMetadataT.InitFromObj(metadata.ModelMetadata.GetRootAs(buffer, 0))
    return root.subgraphMetadata[0]


def test_the_metadata_hold_anchors_and_units(model, export):
    detector = metadata_schema("object_detector_metadata_schema")
    graph = metadata_of(export("float32")[0])
    (custom,) = graph.customMetadata
    assert custom.name == b"DETECTOR_METADATA"
    options = detector.ObjectDetectorOptionsT.InitFromObj(
        detector.ObjectDetectorOptions.GetRootAs(bytes(custom.data), 0)
    )
    anchors = options.ssdAnchorsOptions.fixedAnchorsSchema.anchors
    values = [(a.xCenter, a.yCenter, a.width, a.height) for a in anchors]
    np.testing.assert_allclose(values, model.anchors(*SIZE), atol=1e-6)
    coding = options.tensorsDecodingOptions
    assert (coding.numClasses, coding.numBoxes, coding.numCoords) == (3, NUM_ANCHORS, 4)
    assert (coding.xScale, coding.yScale, coding.wScale, coding.hScale) == (10, 10, 5, 5)
    assert coding.applyExponentialOnBoxSize and not coding.sigmoidScore
    names = [output.name for output in graph.outputTensorMetadata]
    assert names == [b"location", b"score"]
    assert [file.name for file in graph.outputTensorMetadata[1].associatedFiles] == [b"labels.txt"]


def large_images():
    """Images of five times the size, of which every runtime makes the same small ones."""
    images, _ = object_images(4, *SIZE, seed=2)
    return images.repeat(5, axis=1).repeat(5, axis=2)


def detect_with_mediapipe(path, pixels, score):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ObjectDetectorOptions(
        base_options=BaseOptions(model_asset_path=str(path)), score_threshold=score, max_results=50
    )
    found = []
    with vision.ObjectDetector.create_from_options(options) as detector:
        for image in pixels:
            # MediaPipe reads memory as it lies.
            image = np.ascontiguousarray(image, np.uint8)
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            detections = detector.detect(image).detections
            boxes = [d.bounding_box for d in detections]
            found.append(
                {
                    "boxes": np.array(
                        [
                            (b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height)
                            for b in boxes
                        ]
                    ).reshape(-1, 4),
                    "labels": [NAMES.index(d.categories[0].category_name) for d in detections],
                    "scores": np.array([d.categories[0].score for d in detections]),
                }
            )
    return found


def check_same(found, expected, score):
    """Whether MediaPipe's boxes are ours: of the same class, at an IoU of 0.95."""
    count = 0
    for theirs, ours in zip(found, expected, strict=True):
        # Of those next to the threshold either may lack one.
        for some, others in ((theirs, ours), (ours, theirs)):
            is_sure = some["scores"] > score + 0.02
            if not is_sure.any():
                continue
            overlap = overlaps(np.asarray(some["boxes"], "f4"), np.asarray(others["boxes"], "f4"))
            same = np.asarray(some["labels"])[:, None] == np.asarray(others["labels"])
            assert (overlap * same)[is_sure].max(axis=1).min() >= 0.95
            count += is_sure.sum()
    assert count > 2 * len(expected)


@pytest.mark.parametrize("name", ["float32", "trained"])
def test_mediapipe_detects_with_the_file_alone(model, task, export, name):
    path, pixels = export(name)[0], large_images()
    size = pixels.shape[1:3]
    found = detect_with_mediapipe(path, pixels, 0.3)
    outputs = answers(path, np.rint(255.0 * model.preprocess(pixels)))
    expected = task.with_rules("mediapipe").find(outputs, 0.25)
    for some in (found, expected):
        for image in some:
            # MediaPipe's are whole pixels, and not cut at the edges.
            scale = 1 if some is found else np.array(size)[[1, 0, 1, 0]]
            image["boxes"] = np.clip(np.rint(image["boxes"] * scale), 0, np.array(size)[[1, 0] * 2])
    check_same(found, expected, 0.3)


class TestInFile:
    @pytest.mark.parametrize("name", ["float32", "trained"])
    def test_the_file_finds_what_its_anchors_say(self, task, export, name):
        path, report = export(name, IN_FILE)
        plain = answers(export(name)[0], IMAGES)
        expected = suppress(task.decoding.boxes(plain["location"]), plain["score"], **IN_FILE_RULES)
        read = get_task("detection").for_description(report)
        assert read.file.suppresses and read.decoding is None
        for ours, theirs in zip(read.find(answers(path, IMAGES), 0.0), expected, strict=True):
            assert len(ours["labels"]) == len(theirs["labels"])
            np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-5)
            if name == "float32":
                np.testing.assert_array_equal(ours["labels"], theirs["labels"])
                np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=1e-5)
        assert sum(len(image["labels"]) for image in expected) > 12

    @pytest.mark.parametrize("name", ["float32", "trained"])
    def test_it_is_one_part_and_one_operation(self, export, name):
        _, report = export(name, IN_FILE)
        structure = report["structure"]
        assert structure["operations"][SUPPRESSION] == 1
        assert structure["xnnpack_partitions"] == 1
        assert structure["left_operations"] == {SUPPRESSION: 1}
        assert [(o["name"], o["shape"]) for o in report["outputs"]] == [
            ("location", [1, 100, 4]),
            ("category", [1, 100]),
            ("score", [1, 100]),
            ("number of detections", [1]),
        ]

    def test_the_order_of_the_outputs_is_what_older_programs_want(self, export):
        path, _ = export("float32", IN_FILE)
        shapes = [tuple(exit_["shape"]) for exit_ in open_interpreter(path).get_output_details()]
        assert shapes == [(1, 100, 4), (1, 100), (1, 100), (1,)]
        graph = metadata_of(path)
        assert not graph.customMetadata
        kinds = metadata_schema().AssociatedFileType
        (labels,) = graph.outputTensorMetadata[1].associatedFiles
        assert (labels.name, labels.type) == (b"labels.txt", kinds.TENSOR_VALUE_LABELS)

    @pytest.mark.parametrize("name", ["float32", "trained"])
    def test_mediapipe_runs_it(self, model, task, export, name):
        path, pixels = export(name, IN_FILE)[0], large_images()
        size = pixels.shape[1:3]
        found = detect_with_mediapipe(path, pixels, 0.3)
        read = task.for_size(model, SIZE, IN_FILE)
        expected = read.find(answers(path, np.rint(255.0 * model.preprocess(pixels))), 0.0)
        for image in expected:
            image["boxes"] = to_pixels(image["boxes"], *size)
        for image in found:
            image["boxes"] = np.clip(image["boxes"], 0, np.array(size)[[1, 0, 1, 0]])
        check_same(found, expected, 0.3)

    def test_it_is_compared_with_keras_too(self, model, task, export):
        expected = keras_outputs(model, task, IMAGES)
        read = get_task("detection").for_description(export("float32", IN_FILE)[1])
        found = answers(export("float32", IN_FILE)[0], IMAGES)
        comparison = read.compare(expected, found)
        assert comparison.problem("tflite", "float32") is None
        assert comparison.box_agreement == 1.0 and comparison.mean_iou > 0.999
        other = found | {"category": 2.0 - found["category"]}
        assert "that are clearly there" in read.compare(expected, other).problem(
            "tflite", "int8_full"
        )

    def test_no_other_custom_operation_passes(self, export):
        structure = inspect_tflite(export("float32", IN_FILE)[0])
        with pytest.raises(CheckError, match=f"must be built in. The file needs {SUPPRESSION}"):
            check_structure(structure)
        with pytest.raises(CheckError, match="but one Other. The file needs"):
            check_structure(structure, custom=("Other",))
        plain = inspect_tflite(export("float32")[0])
        with pytest.raises(CheckError, match=f"but one {SUPPRESSION}. The file needs none other"):
            check_structure(plain, custom=(SUPPRESSION,))

    def test_other_tasks_have_no_boxes(self, tmp_path):
        with pytest.raises(ValueError, match="Only a detector's file suppresses boxes. Received"):
            export_tflite(build_tiny(), tmp_path / "a.tflite", 64, suppression="in-file")
        with pytest.raises(ValueError, match="`suppression` must be one of .* Received: 'none'"):
            export_tflite(build_tiny(), tmp_path / "a.tflite", 64, suppression="none")
        assert not list(tmp_path.iterdir())


@pytest.mark.tfjs
def test_tfjs_answers_as_keras_does(model, task, tmp_path):
    expected = keras_outputs(model, task, IMAGES)
    report = export_tfjs(model, tmp_path / "tfjs", SIZE, images=IMAGES)
    assert report["parity"]["box_agreement"] == 1.0 and report["parity"]["mean_iou"] > 0.999
    for backend in ("wasm", "cpu"):
        found = run_tfjs(tmp_path / "tfjs", IMAGES[:4], backend).outputs
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values[:4], atol=1e-3)
    description = read_description(tmp_path / "tfjs")
    assert BoxDecoding.from_json(SIZE, description["decoding"]) == task.decoding
