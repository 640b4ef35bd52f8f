"""Detectors' files of both formats in every precision and form, and the runtimes that take them."""

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

SIZE = (64, 128)
NUM_ANCHORS = 268
NAMES = ("röt", "grün", "blau")
# Whole numbers: between two bytes file and model may round to either side.
IMAGES, _ = object_images(12, *SIZE, seed=1)
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int8_full")


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
def exports(model, twin, tmp_path_factory):
    """The folder of all files, and their reports by name."""
    folder, reports = tmp_path_factory.mktemp("detectors"), {}
    for precision in PRECISIONS:
        calibration = IMAGES if precision.startswith("int8") else None
        reports[f"{precision}.tflite"] = export_tflite(
            model, folder / f"{precision}.tflite", SIZE, precision, IMAGES, calibration
        )
    reports["trained.tflite"] = export_tflite(
        twin, folder / "trained.tflite", SIZE, "int8", IMAGES, input_type="uint8"
    )
    return folder, reports


@pytest.fixture(scope="module")
def suppressing(model, twin, tmp_path_factory):
    """The folder of the files that suppress, and their reports by name."""
    folder, reports = tmp_path_factory.mktemp("suppressing"), {}
    for name, source, precision in (("float32", model, "float32"), ("trained", twin, "int8")):
        reports[f"{name}.tflite"] = export_tflite(
            source, folder / f"{name}.tflite", SIZE, precision, IMAGES, suppression="in-file"
        )
    return folder, reports


def answers(path, images):
    return (run_tfjs if path.is_dir() else run_tflite)(path, images).outputs


def test_answers_are_those_of_keras(model, task, exports):
    folder, reports = exports
    expected = keras_outputs(model, task, IMAGES)
    assert (expected["location"].shape, expected["score"].shape) == (
        (12, NUM_ANCHORS, 4),
        (12, NUM_ANCHORS, 3),
    )
    for name, tolerance in (("float32", 1e-4), ("float16", 0.05), ("dynamic", 0.5)):
        found = answers(folder / f"{name}.tflite", IMAGES)
        for output, values in expected.items():
            np.testing.assert_allclose(found[output], values, atol=tolerance * values.std())
    for name, report in reports.items():
        parity = report["parity"]
        assert parity["images"] == parity["differing_images"] == 12
        assert parity["clear_boxes"] > 15, name
        assert parity["box_agreement"] > 0.95 and parity["mean_iou"] > 0.9, name


def test_the_file_of_a_quantization_aware_model_answers_as_it_does(twin, task, exports):
    expected = keras_outputs(twin, task, IMAGES)
    found = answers(exports[0] / "trained.tflite", IMAGES)
    # Whole numbers but for the attention, the norms and the mean, whose sums of floats differ.
    step = float(twin.get_layer("boxes_quantizer").step)
    codes = np.abs(found["location"] - expected["location"]) / step
    assert np.ptp(expected["location"]) / step > 100
    assert np.sort(codes.max(axis=(1, 2)))[-4] < 0.01
    assert codes.max() < 4.5


@pytest.mark.parametrize("name", ["int8", "trained"])
def test_boxes_and_classes_have_grids_of_their_own_in_int8(exports, name):
    path = exports[0] / f"{name}.tflite"
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


def test_every_precision_is_one_part_of_four_dimensions(exports):
    for name, report in exports[1].items():
        structure = report["structure"]
        assert structure["max_rank"] == 4, name
        if report["precision"] != "int8_full":
            assert structure["xnnpack_partitions"] == 1, name
            left = set(structure["left_operations"])
            assert left <= ({"QUANTIZE"} if name == "trained.tflite" else set()), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_wrong_file_is_found_out(model, twin, task, exports, precision):
    path = exports[0] / f"{precision}.tflite"
    expected = keras_outputs(twin if precision == "int8" else model, task, IMAGES)
    for fault, wrong in wrong_detections(lambda images: answers(path, images), IMAGES):
        assert task.compare(expected, wrong).problem("tflite", precision) is not None, fault


def test_files_say_how_their_boxes_are_read(model, exports):
    folder, reports = exports
    for name, report in reports.items():
        description = read_description(folder / name)
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
        assert labels_path(folder / name).read_text("utf-8").splitlines() == list(NAMES)
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


def test_the_metadata_hold_anchors_and_units(model, exports):
    detector = metadata_schema("object_detector_metadata_schema")
    graph = metadata_of(exports[0] / "float32.tflite")
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
def test_mediapipe_detects_with_the_file_alone(model, task, exports, name):
    # Of smaller images' boxes a whole pixel is too much.
    path, size = exports[0] / f"{name}.tflite", (320, 640)
    pixels, _ = object_images(4, *size, seed=2)
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
    def test_the_file_finds_what_its_anchors_say(self, task, exports, suppressing):
        for name, report in suppressing[1].items():
            found = answers(suppressing[0] / name, IMAGES)
            plain = answers(exports[0] / name, IMAGES)
            expected = suppress(
                task.decoding.boxes(plain["location"]), plain["score"], **IN_FILE_RULES
            )
            read = get_task("detection").for_description(report)
            assert read.file.suppresses and read.decoding is None
            for ours, theirs in zip(read.find(found, 0.0), expected, strict=True):
                assert len(ours["labels"]) == len(theirs["labels"]) > 0
                np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-5)
                if name == "float32.tflite":
                    np.testing.assert_array_equal(ours["labels"], theirs["labels"])
                    np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=1e-5)

    def test_it_is_one_part_and_one_operation(self, suppressing):
        for name, report in suppressing[1].items():
            structure = report["structure"]
            assert structure["operations"][SUPPRESSION] == 1
            assert structure["xnnpack_partitions"] == 1, name
            assert structure["left_operations"] == {SUPPRESSION: 1}, name
            assert [(o["name"], o["shape"]) for o in report["outputs"]] == [
                ("location", [1, 100, 4]),
                ("category", [1, 100]),
                ("score", [1, 100]),
                ("number of detections", [1]),
            ]

    def test_the_order_of_the_outputs_is_what_older_programs_want(self, suppressing):
        interpreter = open_interpreter(suppressing[0] / "float32.tflite")
        shapes = [tuple(exit_["shape"]) for exit_ in interpreter.get_output_details()]
        assert shapes == [(1, 100, 4), (1, 100), (1, 100), (1,)]
        graph = metadata_of(suppressing[0] / "float32.tflite")
        assert not graph.customMetadata
        kinds = metadata_schema().AssociatedFileType
        (labels,) = graph.outputTensorMetadata[1].associatedFiles
        assert (labels.name, labels.type) == (b"labels.txt", kinds.TENSOR_VALUE_LABELS)

    @pytest.mark.parametrize("name", ["float32", "trained"])
    def test_mediapipe_runs_it(self, model, task, suppressing, name):
        path, size = suppressing[0] / f"{name}.tflite", (320, 640)
        pixels, _ = object_images(4, *size, seed=2)
        found = detect_with_mediapipe(path, pixels, 0.3)
        read = task.for_size(model, SIZE, "in-file")
        expected = read.find(answers(path, np.rint(255.0 * model.preprocess(pixels))), 0.0)
        for image in expected:
            image["boxes"] = to_pixels(image["boxes"], *size)
        for image in found:
            image["boxes"] = np.clip(image["boxes"], 0, np.array(size)[[1, 0, 1, 0]])
        check_same(found, expected, 0.3)

    def test_no_other_custom_operation_passes(self, exports, suppressing):
        structure = inspect_tflite(suppressing[0] / "float32.tflite")
        with pytest.raises(CheckError, match=f"must be built in. The file needs {SUPPRESSION}"):
            check_structure(structure)
        with pytest.raises(CheckError, match="but one Other. The file needs"):
            check_structure(structure, custom=("Other",))
        plain = inspect_tflite(exports[0] / "float32.tflite")
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
