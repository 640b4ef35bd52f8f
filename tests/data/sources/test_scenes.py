import io

import numpy as np
import pytest
from PIL import Image

from mobilevit_keras.data import open_source
from mobilevit_keras.data.masks import read_mask
from mobilevit_keras.data.sources import scene_drawing, scenes
from mobilevit_keras.data.sources.scans import scans_of_splits
from mobilevit_keras.data.sources.scene_drawing import SIDES, draw_scene
from tests.data.sources.files import names, read, train_on


@pytest.fixture(scope="module")
def few():
    """A few of the scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "NUM_IMAGES", {"train": 24, "validation": 8})
        scenes._drawn.cache_clear()
        yield
    scenes._drawn.cache_clear()


def examples(split, fields):
    return list(open_source("scenes", fields=fields).examples(split).as_numpy_iterator())


def test_masks_and_boxes_are_of_the_same_scenes(few):
    masks, boxes = open_source("scenes"), open_source("scenes", fields=("boxes", "labels"))
    assert masks.fields == ("mask",)
    assert masks.class_names == ("background", *"0123456789")
    assert boxes.class_names == tuple("0123456789")
    for split, count in (("train", 24), ("validation", 8)):
        assert masks.num_examples(split) == boxes.num_examples(split) == count
        assert names(masks, split) == names(boxes, split)
        for masked, boxed in zip(
            examples(split, ("mask",)), examples(split, ("boxes", "labels")), strict=True
        ):
            assert masked["image"] == boxed["image"]
            mask = read_mask(masked["mask"])
            assert mask.shape == tuple(boxed["shape"])
            assert set(mask.shape) <= set(SIDES)
            check(mask, boxed["boxes"], boxed["labels"])
        for source in (masks, boxes):
            assert read(source, split)[1].count == 0


def check(mask, boxes, labels):
    """Each box is a tight one around pixels of its digit, and each such pixel is in one."""
    found = np.zeros(mask.shape, bool)
    real = labels >= 0
    assert real.any()
    for (left, top, right, bottom), label in zip(
        boxes[real].astype(int), labels[real], strict=True
    ):
        digit = mask[top:bottom, left:right] == label + 1
        assert min(digit.shape) >= 3
        for edge in (digit[0], digit[-1], digit[:, 0], digit[:, -1]):
            assert edge.any()
        found[top:bottom, left:right] |= digit
    np.testing.assert_array_equal(found, mask > 0)


def test_scenes_are_the_same_each_time_they_are_drawn(few):
    first = examples("train", ("mask",))
    scenes._drawn.cache_clear()
    again = examples("train", ("mask",))
    assert [each["image"] for each in first] == [each["image"] for each in again]
    assert [each["mask"] for each in first] == [each["mask"] for each in again]
    assert len({each["image"] for each in [*first, *examples("validation", ("mask",))]}) == 32


def test_scans_of_one_split_are_not_seen_in_the_other():
    splits = scans_of_splits()
    assert {split: len(of) for split, of in splits.items()} == {"train": 1400, "validation": 397}
    assert sorted(np.concatenate(list(splits.values()))) == list(range(1797))


def plain_scene(seed, scans, digits):
    grey = Image.new("RGB", (300, 200), (128, 128, 128))
    return draw_scene(np.random.default_rng(seed), [grey], scans, digits)


def test_a_digit_lies_where_its_mask_says(monkeypatch):
    """On an even background, what differs from it is the digit and its shadow."""
    monkeypatch.setattr(scene_drawing, "_PART_WHITE", 0.0)
    scans, digits = np.zeros((1, 8, 8)), np.array([7])
    scans[0, 1:7, 2:6] = 1.0
    for seed in range(6):
        scene = plain_scene(seed, scans, digits)
        assert set(np.unique(scene.mask)) == {0, 8}
        is_digit = scene.mask == 8
        # The background has no colour; light and shadow change that as little.
        colour = np.ptp(scene.image.astype(int), axis=-1)
        assert colour[~is_digit].mean() < 3
        assert colour[is_digit].mean() > 60
        assert (scene.labels == 7).all()


def test_later_digits_lie_over_earlier_ones():
    """Of digits that overlap, no pixel is both's; boxes are of what can be seen."""
    scans, digits = np.ones((10, 8, 8)), np.arange(10)
    overlaps = 0
    for seed in range(30):
        scene = plain_scene(seed, scans, digits)
        for box, label in zip(scene.boxes.astype(int), scene.labels, strict=True):
            inside = scene.mask[box[1] : box[3], box[0] : box[2]]
            overlaps += len(set(np.unique(inside)) - {0, label + 1}) > 0
        check(scene.mask, scene.boxes, scene.labels)
    assert overlaps > 10


def test_training_takes_them(few):
    for fields in (("mask",), ("boxes", "labels"), ("boxes", "labels", "ignored")):
        batches, skipped = train_on(open_source("scenes", fields=fields))
        assert skipped.count == 0
        assert len(batches) == 3


def test_images_are_kept_as_they_were_drawn(few):
    scene = scenes._drawn("train")
    pixels = np.asarray(Image.open(io.BytesIO(scene.images[0])))
    assert pixels.shape[:2] == tuple(scene.sizes[0])
    assert pixels.std() > 10


def test_a_missing_package_is_said(monkeypatch):
    scenes._drawn.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match="scenes: its data needs a package .*sklearn"):
        open_source("scenes")
