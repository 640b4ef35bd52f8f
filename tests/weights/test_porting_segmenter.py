"""Ported segmenters answer as the originals do, and go back as they came."""

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from mobilevit_keras import MobileViTImageSegmenter
from mobilevit_keras.metrics import PixelCrossEntropy
from mobilevit_keras.weights import load_checkpoint, save_checkpoint
from mobilevit_keras.weights.checkpoint_file import open_checkpoint
from tests.weights.numpy_reference import Reference, random_checkpoint, to_hugging_face
from tests.weights.test_porting import PARITY, TOLERANCE, difference, write

RENAME = {"cvnets": dict, "huggingface": to_hugging_face}
STORED = {
    "cvnets": PARITY / "cvnets_deeplabv3_mobilevit_xxs.pt",
    "huggingface": PARITY / "hf_deeplabv3_mobilevit_xxs.safetensors",
}
# Stage 5 has 5 x 7 cells at output stride 16 in the second, which its patch does not divide.
STAND_IN_SHAPES = ((64, 96), (72, 104))


@pytest.fixture(scope="module")
def tensors() -> dict:
    return random_checkpoint("mobilevit_xxs", 5, task="segmentation")


@pytest.fixture(scope="module")
def answers(tensors) -> list[tuple]:
    reference = Reference(tensors)
    rng = np.random.default_rng(1)
    images = [rng.uniform(size=(1, *shape, 3)).astype("float32") for shape in STAND_IN_SHAPES]
    return [(image, reference.segmentation_logits(image[0])[None]) for image in images]


@pytest.fixture(scope="module", params=RENAME)
def layout(request) -> str:
    return request.param


def test_logits_of_a_forward_pass_in_numpy(layout, tensors, answers, tmp_path):
    model = load_checkpoint(write(tmp_path / "weights.pt", RENAME[layout](tensors)))
    assert isinstance(model, MobileViTImageSegmenter)
    assert (model.variant, model.num_classes) == ("mobilevit_xxs", 5)
    for image, logits in answers:
        assert difference(model(image), logits) < TOLERANCE


def test_written_checkpoints_are_the_originals(layout, tensors, tmp_path):
    """Through the other layout, so that every tensor goes through both tables."""
    (other,) = RENAME.keys() - {layout}
    path = write(tmp_path / "weights.pt", RENAME[other](tensors))
    save_checkpoint(load_checkpoint(path), tmp_path / "out.safetensors", layout)
    written = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    expected = RENAME[layout](tensors)
    assert written.keys() == expected.keys()
    for name, value in expected.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(written[name], value, err_msg=name)
    again = load_checkpoint(tmp_path / "out.safetensors")
    assert isinstance(again, MobileViTImageSegmenter)


def test_tensors_that_are_missing_left_over_or_misshapen_are_listed(tensors, tmp_path):
    missing, left_over, wrong = dict(tensors), dict(tensors), dict(tensors)
    del missing["seg_head.aspp.aspp_layer.convs.2.block.norm.running_var"]
    left_over["aux_head.0.block.conv.weight"] = np.zeros((1, 1, 1, 1), "float32")
    wrong["seg_head.aspp.aspp_layer.project.block.conv.weight"] = np.zeros((9, 9, 1, 1), "float32")
    for number, (changed, message) in enumerate(
        (
            (missing, "1 missing, 0 left over. Missing: seg_head.aspp.*convs.2.block.norm.runn"),
            (left_over, "for segmentation and no others. .*1 left over. Left over: aux_head.0"),
            (wrong, r"Wrong shape: seg_head.*project.* \[9, 9, 1, 1\] instead of \[256, 1280"),
        )
    ):
        with pytest.raises(ValueError, match=message):
            load_checkpoint(write(tmp_path / f"{number}.pt", changed))


def test_what_other_libraries_have_no_model_for_is_not_written(tmp_path):
    path = tmp_path / "out.safetensors"
    model = MobileViTImageSegmenter.from_variant("mobilevit_xxs", 2)
    with pytest.raises(ValueError, match="`task` must be one of timm's: .*'segmentation'"):
        save_checkpoint(model, path, "timm")
    wide = MobileViTImageSegmenter(model.backbone, 2, filters=512)
    fine = MobileViTImageSegmenter.from_variant("mobilevit_xxs", 2, output_stride=8)
    for changed, message in ((wide, "filters=512"), (fine, "output_stride=8")):
        with pytest.raises(ValueError, match=message):
            save_checkpoint(changed, path, "cvnets")
    assert not path.exists()


class StoredAnswers:
    def test_logits(self, layout):
        stored = np.load(STORED[layout].with_suffix(".npz"))
        model = load_checkpoint(STORED[layout])
        sizes = [name.removeprefix("logits_") for name in stored if name.startswith("logits_")]
        assert len(sizes) >= 3
        for size in sizes:
            images = stored[f"images_{size}"]
            if images.dtype == np.uint8:
                images = images / np.float32(255)
            found = difference(model(images), stored[f"logits_{size}"])
            print(f"{STORED[layout].name} {size}: logits differ by {found:.1e}")
            assert found < TOLERANCE

    def test_enlarged_logits_and_loss(self):
        stored = np.load(STORED["cvnets"].with_suffix(".npz"))
        logits = load_checkpoint(STORED["cvnets"])(stored["images_odd"][:1] / np.float32(255))
        masks = stored["label_odd_0"]
        assert (masks == 255).any()
        enlarged = tf.image.resize(logits, masks.shape[1:], method="bilinear")
        assert difference(enlarged, stored["upsampled_odd_0"]) < TOLERANCE
        assert difference(PixelCrossEntropy()(masks, logits), stored["loss_odd_0"]) < 1e-5

    def test_the_checkpoints_are_written_back(self, layout, tmp_path):
        save_checkpoint(load_checkpoint(STORED[layout]), tmp_path / "out.safetensors", layout)
        written = safetensors.numpy.load_file(tmp_path / "out.safetensors")
        with open_checkpoint(STORED[layout]) as (originals, _):
            for name, tensor in originals.items():
                if not name.endswith("num_batches_tracked"):
                    np.testing.assert_array_equal(written[name], tensor.read(), err_msg=name)
            assert originals.keys() == written.keys()


# Elsewhere the forward pass in NumPy stands in.
if all(path.is_file() for path in STORED.values()):
    TestStoredAnswers = StoredAnswers
