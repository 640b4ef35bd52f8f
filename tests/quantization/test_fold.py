import keras
import numpy as np
import pytest

from mobilevit_keras.layers import BatchNorm
from mobilevit_keras.quantization import fold
from tests.tiny import build_tiny


def difference(model, folded, size):
    images = np.random.default_rng(1).random((2, *size, 3), np.float32)
    return np.max(np.abs(model(images, training=False) - folded(images, training=False)))


@pytest.mark.parametrize(
    "backbone, size",
    [
        ({}, (64, 64)),
        ({}, (48, 80)),
        ({"use_fusion": False, "activation": "hard_swish"}, (64, 64)),
        ({"output_stride": 8, "patch_size": (8, 4, 2)}, (64, 96)),
        ({"image_shape": (64, 64, 3), "num_heads": 2}, (64, 64)),
        ({"attention": "separable", "num_heads": 1, "use_fusion": False}, (40, 72)),
    ],
)
def test_fold_keeps_the_function(backbone, size):
    model = build_tiny(**backbone)
    folded = fold(model)
    assert folded.backbone.config["form"] == "deployment"
    assert difference(model, folded, size) < 1e-4


def test_fold_leaves_no_norm_with_weights_and_no_original_changed():
    model = build_tiny()
    before = model.get_weights()
    folded = fold(model)
    assert not any(isinstance(layer, BatchNorm) for layer in folded._flatten_layers())
    names = {weight.name for weight in folded.weights}
    assert names == {"kernel", "bias"}
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_fold_of_one_convolution_by_the_formula():
    model = build_tiny()
    norm, conv = model.backbone.get_layer("stem").norm, model.backbone.get_layer("stem").conv
    scale = norm.gamma / keras.ops.sqrt(norm.moving_variance + 1e-5)
    folded = fold(model).backbone.get_layer("stem").conv
    np.testing.assert_allclose(folded.kernel, conv.kernel * scale, rtol=1e-5)
    np.testing.assert_allclose(
        folded.bias, norm.beta - norm.moving_mean * scale, rtol=1e-4, atol=1e-6
    )


def test_fold_of_mixed_precision_is_float32():
    folded = fold(build_tiny(dtype="mixed_float16"))
    assert folded.backbone.config["dtype"] == "float32"


def test_fold_keeps_names_and_preprocessing():
    model = build_tiny(class_names=("a", "b", "c"))
    folded = fold(model, image_shape=(64, 64, 3))
    assert folded.class_names == ("a", "b", "c")
    assert folded.preprocessing == model.preprocessing
    assert folded.input_shape == (None, 64, 64, 3)


def test_fold_refuses():
    model = build_tiny(image_shape=(64, 64, 3))
    with pytest.raises(ValueError, match="must be a VisionTask such as MobileViTImageClassifier"):
        fold(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match="form must be one of"):
        fold(fold(model))
    with pytest.raises(ValueError, match="built for, 64x64"):
        fold(model, image_shape=(96, 96, 3))
    model.head.classifier.bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match="NaN or infinity in .*classifier/bias"):
        fold(model)
