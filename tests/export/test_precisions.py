"""Precisions below float32: what the written files are made of, and what is refused."""

import dataclasses

import numpy as np
import pytest

from mobilevit_keras.export import (
    CheckError,
    export_tfjs,
    export_tflite,
    run_tflite,
)
from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.export.structure import check_structure, inspect_tflite
from mobilevit_keras.export.tflite_runner import open_interpreter
from mobilevit_keras.layers.fake_quant import IMAGE_RANGE, quantizers_of
from mobilevit_keras.quantization import quantize_aware
from mobilevit_keras.tasks import get_task
from tests.export.wrong_files import wrong_answers
from tests.tiny import coloured_images, load_tiny

pytestmark = pytest.mark.slow

# Whole numbers: between two bytes file and model may round to either side.
IMAGES = coloured_images(8, 64, seed=1)
TASK = get_task("classification")


@pytest.fixture(scope="module")
def model():
    return load_tiny("hard_swish")


@pytest.fixture(scope="module")
def twin(model):
    return quantize_aware(model, IMAGES / 255.0)


@pytest.fixture(scope="module")
def folder(model, twin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("precisions")
    for precision, calibration in (("dynamic", None), ("int8", IMAGES), ("int8_full", IMAGES)):
        path = folder / f"{precision}.tflite"
        report = export_tflite(model, path, 64, precision, IMAGES, calibration)
        assert report["precision"] == precision
        assert ("float_parity" in report) == (calibration is not None)
    export_tflite(twin, folder / "trained.tflite", 64, "int8", IMAGES, input_type="uint8")
    return folder


@pytest.mark.parametrize("name", ["int8", "trained"])
def test_int8_computes_convolutions_in_int8_and_the_rest_in_float(folder, name):
    structure = inspect_tflite(folder / f"{name}.tflite")
    assert structure.int8_share == 1.0
    assert structure.float_convolutions == ()
    assert structure.xnnpack_partitions == 1
    # No step between grids is left: every product and sum is on one already.
    assert structure.operations["SOFTMAX"] == 5
    interpreter = open_interpreter(folder / f"{name}.tflite", use_xnnpack=False)
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    for node in interpreter._get_ops_details():
        kinds = {tensors[index]["dtype"] for index in node["inputs"][:2]}
        if node["op_name"] in ("SOFTMAX", "RSQRT", "BATCH_MATMUL", "SQUARED_DIFFERENCE"):
            assert kinds == {np.float32}
        if node["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            kernel = tensors[node["inputs"][1]]
            scales = kernel["quantization_parameters"]["scales"]
            filters = kernel["shape"][3 if node["op_name"].startswith("DEPTH") else 0]
            assert len(scales) == filters


def test_the_file_of_a_quantization_aware_model_answers_as_it_does(twin, folder):
    images = np.rint(IMAGES)
    expected = keras_outputs(twin, TASK, images)["probabilities"]
    answers = run_tflite(folder / "trained.tflite", images).outputs["probabilities"]
    # All is whole numbers but the attention and the norms, whose sums of floats differ: now and
    # then one lands on the other side of a rounding, and what follows of that image differs.
    differences = np.abs(answers - expected).max(axis=-1)
    assert np.ptp(expected, axis=0).min() > 0.5
    assert np.sort(differences)[-3] < 1e-5
    assert differences.max() < 0.05
    entry = open_interpreter(folder / "trained.tflite").get_input_details()[0]
    assert entry["dtype"] == np.uint8
    # The bytes are the codes, and mean what they mean in every image.
    assert entry["quantization"] == (pytest.approx(IMAGE_RANGE[1] / 255), 0)
    assert IMAGE_RANGE[1] == pytest.approx(1.0, abs=0.1 / 255)


def test_values_between_two_bytes_do_not_part_file_and_model(twin, folder):
    """Images enlarged by a whole factor: every second value lies in the middle of two codes."""
    images = np.repeat(np.repeat(np.rint(IMAGES[:, ::2, ::2]), 2, axis=1), 2, axis=2)
    images[:, 1:-1] = 0.5 * (images[:, :-2] + images[:, 2:])
    expected = keras_outputs(twin, TASK, images)["probabilities"]
    answers = run_tflite(folder / "int8.tflite", images).outputs["probabilities"]
    np.testing.assert_allclose(answers, expected, atol=0.01)


def test_calibrated_and_trained_files_have_one_placement(folder):
    first, second = (inspect_tflite(folder / f"{n}.tflite") for n in ("int8", "trained"))
    # They differ in the input alone: scaling and quantizing of float images.
    for name in ("CONV_2D", "DEQUANTIZE", "ADD", "TRANSPOSE"):
        assert first.operations[name] == second.operations[name]


def test_int8_full_computes_all_that_tflite_can_in_int8(folder):
    # The exception is a change of sign in the norms, which TFLite has in float alone.
    interpreter = open_interpreter(folder / "int8_full.tflite", use_xnnpack=False)
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    for node in interpreter._get_ops_details():
        if node["op_name"] not in ("QUANTIZE", "DEQUANTIZE", "NEG"):
            assert tensors[node["inputs"][0]]["dtype"] != np.float32, node["op_name"]


def test_dynamic_is_one_part(folder):
    structure = inspect_tflite(folder / "dynamic.tflite")
    assert (structure.xnnpack_partitions, structure.left_operations) == (1, {})


@pytest.mark.parametrize("precision", ["dynamic", "int8", "int8_full"])
def test_a_wrong_file_is_found_out(model, twin, folder, precision):
    def run(images):
        return run_tflite(folder / f"{precision}.tflite", images).outputs["probabilities"]

    expected = keras_outputs(twin if precision == "int8" else model, TASK, IMAGES)
    for fault, answers in wrong_answers(run, IMAGES):
        comparison = TASK.compare(expected, {"probabilities": answers})
        assert comparison.problem("tflite", precision) is not None, fault


def test_checks_name_what_fails(folder):
    structure = inspect_tflite(folder / "int8.tflite")
    check_structure(structure, 1, is_int8=True)
    for change, part in (
        ({"high_rank_tensors": ("unfold",), "max_rank": 6}, "Rank 6: unfold"),
        ({"foreign_operations": ("FlexErf",), "operations": {"FlexErf": 2}}, "needs FlexErf .2."),
        ({"float_convolutions": ("stem/conv",)}, "in float: stem/conv"),
        ({"left_operations": {"SOFTMAX": 1}}, "leaves {'SOFTMAX': 1}"),
        ({"xnnpack_partitions": 3}, "It makes 3"),
    ):
        with pytest.raises(CheckError, match=part):
            check_structure(dataclasses.replace(structure, **change), 1, is_int8=True)


def test_the_ranges_of_the_callers_model_stay(twin, tmp_path):
    quantizers = quantizers_of(twin)
    # As after a training step: on no grid of 16 bits.
    before = [float(q.high) for q in quantizers]
    for quantizer in quantizers:
        quantizer.high.assign(float(quantizer.high) * 1.01)
    moved = [float(q.high) for q in quantizers]
    export_tflite(twin, tmp_path / "model.tflite", 64, "int8", IMAGES)
    assert [float(q.high) for q in quantizers] == moved
    for quantizer, high in zip(quantizers, before, strict=True):
        quantizer.high.assign(high)


def test_refusals(model, twin, tmp_path):
    out = tmp_path / "out.tflite"
    flat = np.full((4, 64, 64, 3), 90.0, np.float32)
    for arguments, part in (
        ((model, out, 64, "int8", IMAGES), "'int8' needs calibration images"),
        ((model, out, 64, "float32", IMAGES, IMAGES), "takes no calibration images"),
        ((twin, out, 64, "int8", IMAGES, IMAGES), "A quantization-aware model takes no"),
        ((twin, out, 64, "float32", IMAGES), 'converts to "int8" only'),
        ((twin, out, 64, "int8_full", IMAGES, IMAGES), 'converts to "int8" only'),
        ((model, out, 64, "float32", IMAGES, None, "uint8"), "input type other than float32"),
        ((model, out, 64, "int8", IMAGES, flat), "one colour each. Received: 4 images"),
        ((model, out, 64, "int8", IMAGES, np.zeros((0, 64, 64, 3))), "Images must be"),
        ((quantize_aware(model), out, 64, "int8", IMAGES), "must have been measured"),
    ):
        with pytest.raises(ValueError, match=part):
            export_tflite(*arguments)
    with pytest.raises(ValueError, match="form must be one of"):
        export_tfjs(twin, tmp_path / "tfjs", 64, images=IMAGES)
    assert not any(tmp_path.iterdir())
