"""Ported detectors answer as the originals do, and go back as they came."""

import numpy as np
import pytest
import safetensors.numpy

from mobilevit_keras import MobileViTObjectDetector
from mobilevit_keras.boxes import decode_boxes, encode_boxes, match_anchors, suppress, to_pixels
from mobilevit_keras.metrics import MultiBoxLoss
from mobilevit_keras.weights import load_checkpoint, save_checkpoint
from mobilevit_keras.weights.checkpoint_file import open_checkpoint
from tests.weights.numpy_reference import Reference, random_checkpoint
from tests.weights.test_porting import PARITY, difference, write

STORED = PARITY / "cvnets_ssd_mobilevit_xxs_320.pt"
CLASSES_TOLERANCE, LOCATIONS_TOLERANCE = 5e-4, 2e-4


@pytest.fixture(scope="module")
def tensors() -> dict:
    return random_checkpoint("mobilevit_xxs", 3, task="detection")


def test_outputs_of_a_forward_pass_in_numpy(tensors, tmp_path):
    model = load_checkpoint(write(tmp_path / "weights.pt", tensors))
    assert isinstance(model, MobileViTObjectDetector)
    assert (model.variant, model.num_classes) == ("mobilevit_xxs", 3)
    reference, rng = Reference(tensors), np.random.default_rng(1)
    for shape in ((64, 96), (72, 104)):
        image = rng.uniform(size=(*shape, 3)).astype("float32")
        boxes, logits = reference.detection_outputs(image)
        outputs = model(image[None])
        assert difference(outputs["logits"][0], logits) < CLASSES_TOLERANCE
        assert difference(outputs["boxes"][0], boxes) < LOCATIONS_TOLERANCE


def test_written_checkpoints_are_the_originals(tensors, tmp_path):
    save_checkpoint(
        load_checkpoint(write(tmp_path / "weights.pt", tensors)),
        tmp_path / "out.safetensors",
        "cvnets",
    )
    written = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    assert written.keys() == tensors.keys()
    for name, value in tensors.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(written[name], value, err_msg=name)


def test_tensors_that_are_missing_left_over_or_misshapen_are_listed(tensors, tmp_path):
    missing, left_over, wrong, uneven = (dict(tensors) for _ in range(4))
    del missing["ssd_heads.2.loc_cls_layer.dw_conv.block.norm.running_var"]
    left_over["extra_layers.os_-1.1.block.conv.bias"] = np.zeros(64, "float32")
    wrong["ssd_heads.1.proj_layer.block.conv.weight"] = np.zeros((9, 80, 1, 1), "float32")
    uneven["ssd_heads.0.loc_cls_layer.pw_conv.block.conv.bias"] = np.zeros(47, "float32")
    for number, (changed, message) in enumerate(
        (
            (missing, "1 missing, 0 left over. Missing: ssd_heads.2.*running_var"),
            (left_over, "for detection and no others. .*Left over: extra_layers.os_-1.1"),
            (wrong, r"Wrong shape: ssd_heads.1.* \[9, 80, 1, 1\] instead of \[256, 80, 1, 1\]"),
            (uneven, r"Wrong shape: ssd_heads.0.* \[47\] instead of \[48\]"),
        )
    ):
        with pytest.raises(ValueError, match=message):
            load_checkpoint(write(tmp_path / f"{number}.pt", changed))


def test_what_other_libraries_have_no_model_for_is_not_written(tmp_path):
    model = MobileViTObjectDetector.from_variant("mobilevit_xxs", 2)
    for layout in ("timm", "huggingface"):
        with pytest.raises(ValueError, match="`task` must be one of .*'detection'"):
            save_checkpoint(model, tmp_path / "out.safetensors", layout)
    changed = MobileViTObjectDetector(model.backbone, 2, min_scale=0.05)
    with pytest.raises(ValueError, match="min_scale=0.05"):
        save_checkpoint(changed, tmp_path / "out.safetensors", "cvnets")
    assert not list(tmp_path.iterdir())


class StoredAnswers:
    @pytest.fixture(scope="class")
    def model(self) -> MobileViTObjectDetector:
        return load_checkpoint(STORED)

    @pytest.fixture(scope="class")
    def stored(self) -> dict:
        return dict(np.load(STORED.with_suffix(".npz")))

    @pytest.mark.parametrize("size", ["square", "wide", "odd"])
    def test_predictions_and_anchors(self, model, stored, size):
        images = stored[f"images_{size}"] / np.float32(255)
        outputs = model(images)
        classes = difference(outputs["logits"], stored[f"classes_{size}"])
        locations = difference(outputs["boxes"], stored[f"locations_{size}"])
        print(f"{size}: classes differ by {classes:.1e}, locations by {locations:.1e}")
        assert classes < CLASSES_TOLERANCE and locations < LOCATIONS_TOLERANCE
        anchors = model.anchors(*images.shape[1:3])
        np.testing.assert_array_equal(anchors, stored[f"anchors_{size}"])

    @pytest.fixture(scope="class")
    def targets(self, model, stored) -> dict:
        """Of all four images at once, with the boxes padded."""
        boxes, labels = np.zeros((4, 5, 4), "float32"), np.full((4, 5), -1)
        for image in range(4):
            own = stored[f"gt_boxes_{image}"]
            boxes[image, : len(own)] = own * 320
            labels[image, : len(own)] = stored[f"gt_labels_{image}"] - 1
        return model.targets({"boxes": boxes, "labels": labels}, 320, 320)

    def test_targets(self, targets, stored):
        np.testing.assert_array_equal(targets["logits"], stored["target_labels"])
        assert difference(targets["boxes"], stored["target_locations"]) < LOCATIONS_TOLERANCE

    def test_normalised_boxes_give_the_same_targets(self, stored):
        anchors = stored["anchors_square"]
        for image in range(4):
            boxes, labels = match_anchors(
                anchors, stored[f"gt_boxes_{image}"][None], stored[f"gt_labels_{image}"][None] - 1
            )
            np.testing.assert_array_equal(labels[0], stored["target_labels"][image])
            encoded = encode_boxes(boxes[0], anchors)
            assert difference(encoded, stored["target_locations"][image]) < 1e-4

    def test_loss(self, targets, stored):
        outputs = {"boxes": stored["locations_square"], "logits": stored["classes_square"]}
        loss = MultiBoxLoss()
        assert float(loss(targets, outputs)) == pytest.approx(stored["loss_total"], rel=1e-6)
        answers = stored["target_labels"] > 0
        losses = -np.log(np.exp(outputs["logits"])[..., 0] / np.exp(outputs["logits"]).sum(-1))
        hard = np.asarray(loss._hard(losses, answers))
        np.testing.assert_array_equal(hard | answers, stored["loss_selected"])

    @pytest.mark.parametrize("image", [0, 1])
    def test_detections_of_the_stored_predictions(self, stored, image):
        boxes = decode_boxes(stored["locations_square"], stored["anchors_square"])
        logits = stored["classes_square"].astype("float64")
        scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        found = suppress(boxes[image : image + 1], scores[image : image + 1, :, 1:], 0.01)[0]
        # By class, then score.
        order = np.lexsort((-found["scores"], found["labels"]))
        labels = stored[f"detections_labels_{image}"]
        np.testing.assert_array_equal(found["labels"][order] + 1, labels)
        assert difference(found["scores"][order], stored[f"detections_scores_{image}"]) < 1e-6
        found_boxes = found["boxes"][order]
        assert difference(found_boxes, stored[f"detections_boxes_{image}"]) < 1e-6
        if image == 0:
            assert np.bincount(labels).max() == 200
            pixels = to_pixels(found_boxes, 375, 500)
            assert difference(pixels, stored["detections_pixels_500x375_0"]) < 1e-3

    def test_detections_of_the_model(self, model, stored):
        """As sets: the order of scores that are nearly equal is nobody's."""
        images = stored["images_square"][:1] / np.float32(255)
        (found,) = model.detect(images, [(375, 500)], score_threshold=0.01)
        labels, boxes = stored["detections_labels_0"], stored["detections_pixels_500x375_0"]
        assert len(found["labels"]) == len(labels)
        for k in np.unique(labels):
            ours, theirs = found["boxes"][found["labels"] + 1 == k], boxes[labels == k]
            assert len(ours) == len(theirs)
            distance = np.abs(ours[:, None] - theirs[None]).max(-1)
            assert distance.min(1).max() < 0.05 and distance.min(0).max() < 0.05

    def test_the_checkpoint_is_written_back(self, model, tmp_path):
        save_checkpoint(model, tmp_path / "out.safetensors", "cvnets")
        written = safetensors.numpy.load_file(tmp_path / "out.safetensors")
        with open_checkpoint(STORED) as (originals, _):
            assert originals.keys() == written.keys()
            for name, tensor in originals.items():
                if not name.endswith("num_batches_tracked"):
                    np.testing.assert_array_equal(written[name], tensor.read(), err_msg=name)


# Elsewhere the forward pass in NumPy, and the loops in the tests of boxes and loss, stand in.
if STORED.is_file():
    TestStoredAnswers = StoredAnswers
