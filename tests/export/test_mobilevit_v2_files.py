"""Files of MobileViTv2: one part, rank 4, and what its norm and its attention are computed in."""

import numpy as np
import pytest

from mobilevit_keras.export import export_tfjs, export_tflite, run_tflite
from mobilevit_keras.export.tflite_runner import open_interpreter
from mobilevit_keras.layers.quantized_layers import OnGrid
from mobilevit_keras.quantization import quantize_aware
from tests.tiny import build_tiny, coloured_images, tell_images_apart

pytestmark = pytest.mark.slow

# Stage 5 has 3 x 3 cells, which are resized for patches of 2 x 2.
SIZE = 96
IMAGES = coloured_images(8, SIZE, seed=1)


@pytest.fixture(scope="module")
def model():
    return tell_images_apart(build_tiny(attention="separable", num_heads=1, use_fusion=False))


@pytest.fixture(scope="module")
def twin(model):
    return quantize_aware(model, IMAGES / 255.0)


@pytest.mark.slow
def test_float32(model, tmp_path):
    report = export_tflite(model, tmp_path / "model.tflite", SIZE, images=IMAGES)
    assert report["structure"]["xnnpack_partitions"] == 1
    assert report["structure"]["max_rank"] == 4
    operations = report["structure"]["operations"]
    # The norms' own means and the classifier's; one resize, and no cast or gather around it.
    assert operations["RESIZE_BILINEAR"] == 1
    assert operations["MEAN"] == 2 * (2 * 4 + 3) + 1
    answers = run_tflite(tmp_path / "model.tflite", IMAGES).outputs["probabilities"]
    logits = np.asarray(model(IMAGES / 255.0))
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(answers, expected, atol=1e-4)


def test_the_file_of_a_quantization_aware_model(twin, tmp_path):
    """int8 are the convolutions, the resize and what only moves pixels, and nothing else."""
    path = tmp_path / "model.tflite"
    report = export_tflite(twin, path, SIZE, "int8", IMAGES, input_type="uint8")
    assert report["structure"]["xnnpack_partitions"] == 1
    assert report["structure"]["int8_share"] == 1.0
    interpreter = open_interpreter(path, use_xnnpack=False)
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    kinds = {}
    for node in interpreter._get_ops_details():
        types = kinds.setdefault(node["op_name"], set())
        types.add(np.dtype(tensors[node["inputs"][0]]["dtype"]).name)
    for name in ("SOFTMAX", "RSQRT", "BATCH_MATMUL", "SQUARED_DIFFERENCE", "QUANTIZE"):
        assert kinds[name] <= {"float32", "uint8"}, name
    for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "RESIZE_BILINEAR"):
        assert kinds[name] == {"int8"}, name
    # Of the resizes, the model knows the grid: what it answers lies on it.
    grids = [layer for layer in twin._flatten_layers() if isinstance(layer, OnGrid)]
    assert len(grids) == 3 and all(float(grid.input_step) > 0.0 for grid in grids)
    step = float(grids[0].input_step)
    values = np.asarray(grids[0](np.linspace(-1, 1, 101, dtype="float32")))
    np.testing.assert_array_equal(values / np.float32(step), np.round(values / step))


@pytest.mark.tfjs
@pytest.mark.slow
def test_tfjs(model, tmp_path):
    report = export_tfjs(model, tmp_path / "tfjs", SIZE, images=IMAGES)
    assert report["structure"]["operations"]["ResizeBilinear"] == 1
