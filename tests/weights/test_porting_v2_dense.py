"""Ported segmenters and detectors on MobileViTv2 answer as the originals do, and go back."""

import numpy as np
import pytest
import safetensors.numpy

from mobilevit_keras import MobileViTImageSegmenter, MobileViTObjectDetector
from mobilevit_keras.models import Preprocessing
from mobilevit_keras.weights import load_checkpoint, save_checkpoint
from tests.weights.numpy_reference_v2 import (
    ReferenceV2,
    auxiliary_head,
    random_checkpoint,
    to_hugging_face,
)
from tests.weights.test_porting import difference, write
from tests.weights.written import assert_written

TOLERANCE = 5e-4
RENAME = {"cvnets": dict, "huggingface": to_hugging_face}
# Stage 3 has 9 x 13 cells in the second, which become 10 x 14, and stage 4 then 5 x 7 and 6 x 8.
SHAPES = ((64, 96), (72, 104))


@pytest.fixture(scope="module")
def segmenter_tensors() -> dict:
    return random_checkpoint(5, task="segmentation")


def image_of(shape, seed=1):
    return np.random.default_rng(seed).uniform(size=(*shape, 3)).astype("float32")


@pytest.mark.parametrize("layout", RENAME)
def test_a_segmenters_logits(tmp_path, segmenter_tensors, layout):
    path = write(tmp_path / "weights.pt", RENAME[layout](segmenter_tensors))
    model = load_checkpoint(path)
    assert isinstance(model, MobileViTImageSegmenter)
    assert (model.variant, model.num_classes) == ("mobilevitv2_050", 5)
    assert model.preprocessing == Preprocessing(288, 512, "bicubic", "stretch")
    for shape in SHAPES:
        expected = ReferenceV2(segmenter_tensors).segmentation_logits(image_of(shape))
        assert difference(model(image_of(shape)[None])[0], expected) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [150, 151])
def test_ade20ks_segmenters_are_of_stride_8(tmp_path, num_classes):
    tensors = random_checkpoint(num_classes, task="segmentation")
    model = load_checkpoint(write(tmp_path / "weights.pt", tensors))
    names = model.class_names
    assert (names and (names[0], names[149])) == (("wall", "flag") if num_classes == 150 else None)
    image = image_of((72, 104))
    expected = ReferenceV2(tensors).segmentation_logits(image, 8, (12, 24, 36))
    assert expected.shape == (10, 14, num_classes)
    assert difference(model(image[None])[0], expected) < TOLERANCE
    save_checkpoint(model, tmp_path / "out.safetensors", "cvnets")
    assert safetensors.numpy.load_file(tmp_path / "out.safetensors").keys() == tensors.keys()


@pytest.mark.parametrize("width", [0.5, 0.75])
def test_a_detectors_outputs(tmp_path, width):
    """Of width 0.5 stage 5 has the channels of its head already: nothing projects it."""
    tensors = random_checkpoint(3, task="detection", width=width)
    assert ("ssd_heads.1.proj_layer.block.conv.weight" in tensors) == (width > 0.5)
    model = load_checkpoint(write(tmp_path / "weights.pt", tensors))
    assert isinstance(model, MobileViTObjectDetector)
    assert (model.variant, model.num_classes) == (f"mobilevitv2_{100 * width:03.0f}", 3)
    assert model.preprocessing == Preprocessing(288, 320, "bicubic", "stretch")
    for shape in SHAPES:
        boxes, logits = ReferenceV2(tensors).detection_outputs(image_of(shape))
        outputs = model(image_of(shape)[None])
        assert difference(outputs["logits"][0], logits) < TOLERANCE
        assert difference(outputs["boxes"][0], boxes) < TOLERANCE


@pytest.mark.parametrize(
    "task, layout",
    [("segmentation", "cvnets"), ("segmentation", "huggingface"), ("detection", "cvnets")],
)
def test_written_checkpoints_are_the_originals(tmp_path, task, layout):
    tensors = random_checkpoint(4, task=task)
    # A segmenter through the other layout, so that every tensor goes through both tables.
    other = dict if layout == "huggingface" or task == "detection" else to_hugging_face
    model = load_checkpoint(write(tmp_path / "weights.pt", other(tensors)))
    save_checkpoint(model, tmp_path / "out.safetensors", layout)
    assert_written(tmp_path / "out.safetensors", RENAME[layout](tensors))


def test_a_head_for_training_alone_is_left_out(tmp_path, segmenter_tensors):
    more = segmenter_tensors | auxiliary_head(5)
    models = [
        load_checkpoint(write(tmp_path / f"{number}.pt", tensors))
        for number, tensors in enumerate((segmenter_tensors, more))
    ]
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_projections_that_are_missing_or_too_many_are_listed(tmp_path):
    name = "ssd_heads.1.proj_layer.block.conv.weight"
    tensors = random_checkpoint(3, task="detection") | {name: np.zeros((256, 256, 1, 1), "float32")}
    with pytest.raises(ValueError, match=f"0 missing, 1 left over. Left over: {name}"):
        load_checkpoint(write(tmp_path / "more.pt", tensors))
    tensors = random_checkpoint(3, task="detection", width=0.75)
    del tensors[name]
    with pytest.raises(ValueError, match=f"1 missing, 0 left over. Missing: {name}"):
        load_checkpoint(write(tmp_path / "less.pt", tensors))


# Millions of parameters in the authors' README-model-zoo.
DETECTORS = {"050": 2.0, "075": 3.6, "100": 5.6, "125": 8.2, "150": 11.3, "175": 14.9, "200": 19.1}
SEGMENTERS = {"050": 6.2, "100": 13.3, "125": 17.7, "150": 22.6}


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_class, width, millions",
    [
        *((MobileViTObjectDetector, *row) for row in DETECTORS.items()),
        *((MobileViTImageSegmenter, *row) for row in SEGMENTERS.items()),
    ],
)
def test_there_are_as_many_parameters_as_published(model_class, width, millions):
    model = model_class.from_variant(f"mobilevitv2_{width}")
    parameters = sum(weight.shape.num_elements() for weight in model.trainable_weights)
    assert round(parameters / 1e6, 1) == millions


def test_what_the_authors_have_no_model_for_is_not_written(tmp_path):
    for arguments, message in (
        ({"filters": 256}, "filters=256"),
        ({"output_stride": 8}, "output_stride=8"),
        ({"num_classes": 150}, r"output_stride=16, dilation_rates=\(6, 12, 18\)"),
    ):
        model = MobileViTImageSegmenter.from_variant(
            "mobilevitv2_050", **{"num_classes": 2, **arguments}
        )
        with pytest.raises(ValueError, match=message):
            save_checkpoint(model, tmp_path / "out.safetensors", "cvnets")
    assert not list(tmp_path.iterdir())
