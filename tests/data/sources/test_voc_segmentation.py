import numpy as np
import pytest

from mobilevit_keras.data import open_source
from mobilevit_keras.data.sources.voc_segmentation import VocSegmentation
from tests.data.sources.files import names, numbers, read, train_on, write_image, write_mask

SPLITS = {"train": range(6), "val": range(6, 9)}


@pytest.fixture
def voc(tmp_path):
    """Nine images with masks that have palettes, and one of neither list."""
    root = tmp_path / "VOC2012"
    for number in range(9):
        write_image(root / "JPEGImages" / f"2007_{number}.jpg", number)
        mask = numbers(number, num_classes=21)
        write_mask(root / "SegmentationClass" / f"2007_{number}.png", mask, palette=True)
    write_image(root / "JPEGImages" / "2008_0.jpg")
    for split, range_of in SPLITS.items():
        write_list(root, split, [f"2007_{number}" for number in range_of])
    return root


def write_list(root, name, lines):
    path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def stems(source, split):
    return [name.split("/")[-1].removesuffix(".jpg") for name in names(source, split)]


def test_lists_say_what_is_trained_on(voc):
    source = open_source(f"voc-segmentation:{voc}")
    assert source.fields == ("mask",)
    assert len(source.class_names) == 21
    assert source.class_names[0] == "background"
    assert source.class_names[15] == "person"
    assert source.class_names[20] == "tvmonitor"
    assert source.left_out == "1 file left out: 1 image(s) of no list, JPEGImages/2008_0.jpg"
    for split, listed in (("train", "train"), ("validation", "val")):
        assert stems(source, split) == [f"2007_{number}" for number in SPLITS[listed]]
        targets, skipped = read(source, split)
        assert skipped.count == 0
        for number, y in zip(SPLITS[listed], targets, strict=True):
            np.testing.assert_array_equal(y["mask"][0], numbers(number, num_classes=21))


@pytest.mark.parametrize("inside", ["", "VOCdevkit"])
def test_the_folder_may_be_named_from_outside(voc, tmp_path, inside):
    if inside:
        (tmp_path / "VOCdevkit").mkdir()
        voc.rename(tmp_path / "VOCdevkit" / "VOC2012")
    assert open_source(f"voc-segmentation:{tmp_path}").num_examples("train") == 6


def test_several_such_folders(voc, tmp_path):
    for part in ("JPEGImages", "SegmentationClass"):
        (tmp_path / "VOC2007" / part).mkdir(parents=True)
    with pytest.raises(ValueError, match="One such folder is needed.* VOC2007, VOC2012"):
        open_source(f"voc-segmentation:{tmp_path}")
    assert open_source(f"voc-segmentation:{voc}").num_examples("train") == 6


@pytest.mark.parametrize(
    ("lists", "train", "validation"),
    [
        ({"train": "012", "val": "34", "trainval": "01234", "test": "56"}, "012", "34"),
        ({"trainval": "0123", "test": "456"}, "0123", "456"),
        ({"train": "0123", "test": "456"}, "0123", "456"),
        ({"train": "0123", "val": "2345"}, "0123", "45"),
        ({"train": ["0", "", "1 ", "0"], "val": "2"}, "01", "2"),
    ],
)
def test_other_lists(voc, lists, train, validation):
    for split in SPLITS:
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").unlink()
    for name, of in lists.items():
        write_list(voc, name, [each and f"2007_{each}" for each in of])
    source = open_source(f"voc-segmentation:{voc}")
    assert stems(source, "train") == [f"2007_{number}" for number in train]
    assert stems(source, "validation") == [f"2007_{number}" for number in validation]
    leaks = set(lists.get("train", "")) & set(lists.get("val", "")) - {""}
    assert ("of the lists of both splits" in source.left_out) == bool(leaks)


@pytest.mark.parametrize("lists", [{}, {"trainval": "012345678"}, {"train": "012345678"}])
def test_a_part_is_held_out_where_no_list_says_which(voc, lists):
    for split in SPLITS:
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").unlink()
    for name, of in lists.items():
        write_list(voc, name, [f"2007_{number}" for number in of])
    source = open_source(f"voc-segmentation:{voc}")
    found = [stems(source, split) for split in ("train", "validation")]
    assert sorted(sum(found, [])) == [f"2007_{number}" for number in range(9)]
    assert all(found)
    more = stems(VocSegmentation(voc, validation_fraction=0.9), "validation")
    assert set(found[1]) < set(more)
    what = "of no list" if lists else "without a file in SegmentationClass"
    assert source.left_out == f"1 file left out: 1 image(s) {what}, JPEGImages/2008_0.jpg"


def test_masks_without_an_image_are_counted(voc):
    for split in SPLITS:
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").unlink()
    (voc / "JPEGImages" / "2007_4.jpg").unlink()
    assert "1 of SegmentationClass without an image, SegmentationClass/2007_4.png" in (
        open_source(f"voc-segmentation:{voc}").left_out
    )


def test_listed_images_that_cannot_be_used_are_skipped_and_named(voc):
    (voc / "SegmentationClass" / "2007_1.png").unlink()
    (voc / "JPEGImages" / "2007_2.jpg").unlink()
    write_mask(voc / "SegmentationClass" / "2007_3.png", numbers(0, num_classes=30))
    source = open_source(f"voc-segmentation:{voc}")
    assert source.num_examples("train") == 6
    _, skipped = train_on(source)
    images = voc / "JPEGImages"
    assert set(skipped.names) == {str(images / f"2007_{number}.jpg") for number in (1, 2, 3)}
    assert f"there is no mask {voc}/SegmentationClass/2007_1.png" in str(skipped)
    assert "its mask holds 21, and classes are from 0 to 20" in str(skipped)


def test_class_names_of_ones_own(voc):
    (voc / "classes.txt").write_text("\n".join(f"class {number}" for number in range(21)))
    assert open_source(f"voc-segmentation:{voc}").class_names[20] == "class 20"


def test_bad_folders(voc, tmp_path):
    with pytest.raises(FileNotFoundError, match="such as VOC2012 is needed. Received: .*absent"):
        open_source(f"voc-segmentation:{tmp_path}/absent")
    write_list(voc, "val", ["other"])
    write_list(voc, "train", ["others"])
    with pytest.raises(ValueError, match="must hold the images of ImageSets/Segmentation.*none"):
        open_source(f"voc-segmentation:{voc}")
    (voc / "ImageSets" / "Segmentation" / "train.txt").unlink()
    with pytest.raises(ValueError, match=r"train.txt or trainval.txt. Received: .*\['val.txt'\]"):
        open_source(f"voc-segmentation:{voc}")
    (voc / "SegmentationClass").rename(voc / "Masks")
    with pytest.raises(FileNotFoundError, match="JPEGImages and SegmentationClass is needed"):
        open_source(f"voc-segmentation:{tmp_path}")
