"""Masks and boxes go where their image's pixels go, in training and in evaluation."""

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data.evaluation import EvaluationDataset
from mobilevit_keras.data.geometry import Geometry
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.targets import as_targets, as_y, move_targets
from tests.data.images import (
    CORNERS,
    Listed,
    classes_of_colours,
    encode,
    framed_source,
    painted_mask,
    painted_source,
    smooth_image,
)

SIZES = {"sizes": (32, 64, 96), "base_size": 64, "batch_size": 6}


def assert_masks_say_the_colours(images, masks, margin):
    classes = classes_of_colours(np.asarray(images), margin)
    sure = classes >= 0
    assert sure.mean() > 0.4
    np.testing.assert_array_equal(np.asarray(masks)[sure], classes[sure])


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("augmentation", "crop"),
    [("none", "random_resized"), ("basic", "random_resized"), ("basic", "short_side")],
)
def test_training_masks_follow_the_pixels(augmentation, crop, image_format):
    source = painted_source(18, image_format)
    dataset = MultiScaleDataset(source, **SIZES, augmentation=augmentation, crop=crop)
    outside = 0
    for epoch in range(2):
        for images, masks in dataset.epoch(epoch):
            assert masks.shape == images.shape[:3] and masks.dtype == tf.uint8
            # The decoder's halved pictures are off by up to a pixel.
            assert_masks_say_the_colours(images, masks, 2 if image_format == "JPEG" else 1)
            outside += int(np.sum(masks.numpy() == 255))
    assert (outside > 0) == (crop == "short_side")


def extents(image, colour):
    """The box of a colour's pixels: left, top, right and bottom."""
    rows, columns = np.nonzero(np.abs(image - colour / 255).max(-1) < 0.5)
    if not len(rows):
        return None
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("crop", ["random_resized", "short_side", "sample"])
def test_training_boxes_follow_the_pixels(crop, image_format):
    dataset = MultiScaleDataset(framed_source(24, image_format), **SIZES, crop=crop)
    kept = lost = 0
    for epoch in range(2):
        for images, targets in dataset.epoch(epoch):
            boxes, labels = targets["boxes"].numpy(), targets["labels"].numpy()
            assert boxes.shape == (len(images), 4, 4) and labels.dtype == np.int64
            assert np.all(labels[:, 2:] == -1)
            assert np.all(boxes[labels == -1] == 0)
            for image, of_image, found in zip(images.numpy(), boxes, labels, strict=True):
                for label in (0, 1):
                    if found[label] == -1:
                        lost += 1
                        continue
                    assert found[label] == label
                    kept += 1
                    seen = extents(image, CORNERS[2 * label])
                    if min(of_image[label][2:] - of_image[label][:2]) > 3:
                        np.testing.assert_allclose(of_image[label], seen, atol=1.6)
    assert kept > 40 and lost > 0


def test_boxes_whose_centre_leaves_become_padding_and_others_are_clipped():
    boxes = np.array(
        [
            [10, 10, 30, 30],  # inside
            [0, 10, 25, 30],  # its centre, 12.5, lies inside: cut at the left
            [0, 10, 19, 30],  # its centre, 9.5, lies outside
            [40, 30, 60, 70],  # cut at the right and at the bottom
            [0, 0, 0, 0],
        ],
        np.float32,
    )
    targets = {"boxes": tf.constant(boxes), "labels": tf.constant([3, 4, 5, 6, -1], tf.int64)}
    window = tf.constant([5, 10, 50, 45])
    for flip in (False, True):
        moved = move_targets(targets, Geometry(window, (100, 90), flip))
        expected = np.array([[0, 10, 40, 50], [0, 10, 30, 50], [0] * 4, [60, 50, 90, 100], [0] * 4])
        if flip:
            rows = [0, 1, 3]
            expected[rows, 0], expected[rows, 2] = 90 - expected[rows, 2], 90 - expected[rows, 0]
        np.testing.assert_allclose(moved["boxes"], expected, atol=1e-4)
        assert moved["labels"].numpy().tolist() == [3, 4, -1, 6, -1]


def test_boxes_are_clipped_to_the_image_and_not_to_the_black_around_it():
    targets = {
        "boxes": tf.constant([[-5.0, 2.0, 9.0, 30.0]]),
        "labels": tf.constant([0], tf.int64),
    }
    geometry = Geometry(tf.constant([0, 0, 20, 10]), (40, 40), False, tf.constant([8, 12, 20, 10]))
    moved = move_targets(targets, geometry)
    np.testing.assert_allclose(moved["boxes"], [[12, 10, 21, 28]])


@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize("crop_size", [48, (40, 72)])
def test_evaluations_targets_follow_the_pixels(resize, crop_size):
    how = {"crop_size": crop_size, "resize": resize, "batch_size": 5}
    for images, masks in EvaluationDataset(painted_source(), **how):
        assert_masks_say_the_colours(images, masks, 1)
    for images, targets in EvaluationDataset(framed_source(), **how):
        for image, boxes, labels in zip(images, targets["boxes"], targets["labels"], strict=True):
            for label in np.flatnonzero(np.isin([0, 1], labels)):
                seen = extents(image.numpy(), CORNERS[2 * label])
                np.testing.assert_allclose(boxes[label], seen, atol=1.0)


def test_whole_targets_lie_as_in_the_original():
    source = painted_source(7)
    dataset = EvaluationDataset(
        source, crop_size=32, resize="stretch", batch_size=4, whole_targets=True
    )
    assert dataset.element_spec[1]["mask"].shape.as_list() == [None, None, None]
    batches = list(dataset)
    assert [len(y["mask"]) for _, y in batches] == [4, 3]
    number = 0
    for images, y in batches:
        assert set(y) == {"mask", "shape"} and y["shape"].dtype == tf.int32
        assert images.shape[1:] == (32, 32, 3)
        np.testing.assert_array_equal(y["mask"].shape[1:], y["shape"].numpy().max(0))
        for mask, (height, width) in zip(y["mask"].numpy(), y["shape"].numpy(), strict=True):
            expected = painted_mask(number, 80 + 9 * (number % 5), 150 - 14 * (number % 4))
            assert expected.shape == (height, width)
            np.testing.assert_array_equal(mask[:height, :width], expected)
            assert np.all(mask[height:] == 255) and np.all(mask[:, width:] == 255)
            number += 1


def test_whole_boxes_stay_as_they_are():
    source = framed_source(5)
    (_, y), *_ = EvaluationDataset(source, crop_size=32, whole_targets=True, batch_size=5)
    records = list(source.records("validation", None, 0))
    for name in ("boxes", "labels"):
        np.testing.assert_array_equal(y[name], [record[name] for record in records])
    assert y["shape"].numpy()[:3].tolist() == [[90, 140], [100, 125], [110, 110]]


def test_whole_labels_are_labels_still():
    records = [
        {"image": encode(smooth_image(n, 20, 30), "PNG"), "label": np.int64(n % 2), "name": str(n)}
        for n in range(3)
    ]
    source = Listed(records, ("label",), "ab")
    ((_, y),) = EvaluationDataset(source, crop_size=32, whole_targets=True)
    assert y["label"].numpy().tolist() == [0, 1, 0]
    assert y["shape"].numpy().tolist() == [[20, 30]] * 3


def test_images_whose_mask_does_not_fit_are_skipped_and_named():
    masks = [
        encode(painted_mask(number, 80 + 9 * (number % 5), 150 - 14 * (number % 4)), "PNG")
        for number in range(12)
    ]
    masks[1] = encode(np.zeros((9, 9), np.uint8), "PNG")
    masks[4] = encode(np.full((116, 150), 5, np.uint8), "PNG")
    masks[7] = b""
    source = painted_source(12, masks=masks)
    reasons = {
        "1.png": "its mask has 9 x 9 pixels, and the image has 136 x 89",
        "4.png": "its mask holds 5, and classes are from 0 to 4",
        "7.png": "its mask is no PNG file that can be read",
    }
    training = MultiScaleDataset(source, **SIZES, crop="short_side")
    assert sum(len(masks) for _, masks in training.epoch(0)) >= 12
    evaluation = EvaluationDataset(source, crop_size=32, batch_size=50)
    ((images, _),) = evaluation
    assert len(images) == 9
    for dataset in (training, evaluation):
        assert set(dataset.skipped.names) == reasons.keys() and dataset.skipped.count == 3
        for name, why in reasons.items():
            assert f"{name} ({why})" in str(dataset.skipped)
    strict = EvaluationDataset(source, crop_size=32, strict=True)
    with pytest.raises(ValueError, match=r"Received: 1.png \(its mask has 9 x 9 pixels"):
        with strict.clear_errors():
            list(strict)


def test_y_and_targets_by_name():
    for fields in (("label",), ("boxes", "labels"), ("shape",)):
        targets = {name: np.arange(3) for name in fields}
        back = as_targets(as_y(targets), fields)
        assert back.keys() == targets.keys()
