import math

import keras
import pytest

from mobilevit_keras.models import (
    VARIANTS,
    MobileViTImageClassifier,
    MobileViTImageSegmenter,
    MobileViTObjectDetector,
)
from mobilevit_keras.models.statistics import DESCRIBED_MODELS, count
from tests.tiny import build_tiny

# Counted by timm on its PyTorch models at 256 pixels (its table of results): activations.
ACTIVATIONS = {"mobilevit_xxs": 8.34e6, "mobilevit_xs": 16.33e6, "mobilevit_s": 19.94e6}


@pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s"])
def test_published_figures(name):
    described = DESCRIBED_MODELS[name]
    counted = count(described.build(256), 256)
    published = described.published
    assert counted.parameters == published.parameters
    assert counted.multiply_adds == pytest.approx(published.multiply_adds, abs=5e5)
    assert counted.attention_multiply_adds == pytest.approx(
        published.attention_multiply_adds, abs=5e5
    )
    assert counted.activations == pytest.approx(ACTIVATIONS[name], abs=5e3)


def test_mobilevit_v2():
    """timm counts 8.0M activations; each of L layers sums up H x W keys of d channels."""
    described = DESCRIBED_MODELS["mobilevitv2_050"]
    counted = count(described.build(256), 256)
    assert counted.parameters == described.published.parameters == 1_370_593
    assert counted.attention_multiply_adds == 2 * 32**2 * 64 + 4 * 16**2 * 96 + 3 * 8**2 * 128
    assert counted.activations == pytest.approx(8.0e6, abs=5e4)
    assert counted.multiply_adds == pytest.approx(0.465e9, abs=5e5)


def test_a_detectors_published_parameters():
    described = DESCRIBED_MODELS["mobilevit_xxs detector"]
    model = described.build(320)
    counted = sum(math.prod(weight.shape) for weight in model.trainable_variables)
    assert counted == described.published.parameters == 1_755_050
    assert described.published.accuracy == 19.9


def test_both_generations_stand_side_by_side():
    rows = {
        (described.variant, described.model_class): described.published
        for described in DESCRIBED_MODELS.values()
        if not described.overrides
    }
    for variant in VARIANTS:
        for model_class in (MobileViTImageClassifier, MobileViTObjectDetector):
            assert rows[variant, model_class].accuracy and rows[variant, model_class].parameters
    # The authors have no segmenter of VOC on the others.
    for variant in ("mobilevitv2_050", "mobilevitv2_100", "mobilevitv2_125", "mobilevitv2_150"):
        assert rows[variant, MobileViTImageSegmenter].mean_iou > 75


def test_mobilenet_v2():
    """Published: 3.4M parameters, 300M multiply-adds at 224; timm counts 6.68M activations."""
    counted = count(DESCRIBED_MODELS["mobilenet_v2"].build(224), 224)
    assert counted.parameters == pytest.approx(3.4e6, rel=0.05)
    assert counted.multiply_adds == pytest.approx(300e6, rel=0.01)
    assert counted.attention_multiply_adds == 0
    assert counted.activations == pytest.approx(6.68e6, rel=0.002)


@pytest.mark.parametrize("patch", [(3, 3, 3), (8, 4, 2)])
def test_attention_products_of_other_patches(patch):
    """Two products of N x N by d for each of P positions: 2 P N^2 d = 2 (H W)^2 d / P a layer."""
    model = build_tiny(patch_size=patch)
    expected = 0
    for stride, side, layers in zip((8, 16, 32), patch, (1, 2, 1), strict=True):
        padded = -(-(128 // stride) // side) * side
        expected += layers * 2 * padded**4 * 16 // side**2
    assert count(model, 128).attention_multiply_adds == expected


def test_a_size_the_model_does_not_take():
    model = MobileViTImageClassifier.from_variant("mobilevit_xxs", image_shape=(64, 64, 3))
    with pytest.raises(ValueError, match=r"\(64, 64\) pixels. Received: 96"):
        count(model, 96)


def test_dense_layers_count_like_convolutions():
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(inputs)))
    counted = count(model, 4)
    assert (counted.multiply_adds, counted.attention_multiply_adds) == (48 * 5, 0)
    assert counted.activations == 5
