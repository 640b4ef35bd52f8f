"""What the GPU backend of LiteRT takes, asked through LiteRT.js in Chromium."""

import pytest
import tensorflow as tf

from benchmarks.gpu_operations import compile_for_gpu
from mobilevit_keras.export import export_tflite
from tests.tiny import (
    SEPARABLE,
    build_tiny,
    build_tiny_detector,
    coloured_images,
    load_tiny,
    load_tiny_segmenter,
    load_tiny_segmenter_v2,
    patched_images,
    tell_anchors_apart,
    tell_images_apart,
)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_every_operation_of_an_export_is_taken(tmp_path, browser, precision):
    path = tmp_path / "model.tflite"
    # 96 pixels: the last stage's 3 x 3 cells are resized for patches of 2 x 2.
    export_tflite(load_tiny(), path, 96, precision, coloured_images(2, 96))
    assert compile_for_gpu(path, browser) == ([[1, 96, 96, 3]], [])


@pytest.mark.slow
def test_every_operation_of_a_segmenter_is_taken(tmp_path, browser):
    path = tmp_path / "model.tflite"
    # 112 pixels: 7 x 7 cells are resized for patches of 2 x 2, and one pixel to 7 x 7.
    images, _ = patched_images(2, 112)
    export_tflite(load_tiny_segmenter(), path, 112, "float16", images)
    assert compile_for_gpu(path, browser) == ([[1, 112, 112, 3]], [])


@pytest.mark.slow
@pytest.mark.parametrize(("task", "size"), [("segmenter", (112, 144)), ("detector", (64, 128))])
def test_every_operation_of_segmenters_and_detectors_on_mobilevit_v2(tmp_path, browser, task, size):
    path = tmp_path / "model.tflite"
    images, _ = patched_images(8, *size, seed=1)
    if task == "segmenter":
        model = load_tiny_segmenter_v2()
    else:
        model = tell_anchors_apart(build_tiny_detector(**SEPARABLE), *size)
    export_tflite(model, path, size, "float16", images)
    assert compile_for_gpu(path, browser) == ([[1, *size, 3]], [])


@pytest.mark.slow
def test_every_operation_of_mobilevit_v2_is_taken(tmp_path, browser):
    path = tmp_path / "model.tflite"
    # 96 pixels: the last stage's 3 x 3 cells are resized, with aligned corners.
    model = build_tiny(attention="separable", num_heads=1, use_fusion=False)
    export_tflite(tell_images_apart(model), path, 96, "float16", coloured_images(8, 96))
    assert compile_for_gpu(path, browser) == ([[1, 96, 96, 3]], [])


def test_a_refused_operation_is_named(tmp_path, browser):
    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 4))])
    def unfold_in_six_dimensions(images):
        x = tf.reshape(images, (1, 4, 2, 4, 2, 4))
        return tf.reshape(tf.transpose(x, (0, 2, 4, 1, 3, 5)), (1, 4, 16, 4)) * 2.0

    path = tmp_path / "model.tflite"
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [unfold_in_six_dimensions.get_concrete_function()]
    )
    path.write_bytes(converter.convert())
    _, refused = compile_for_gpu(path, browser)
    assert any("bad input dims size: 6" in line for line in refused)
