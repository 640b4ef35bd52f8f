import unicodedata

import numpy as np
import pytest

from mobilevit_keras.data import open_source
from mobilevit_keras.data.sources.mask_folder import MaskFolder
from tests.data.images import encode, smooth_image
from tests.data.sources.files import (
    names,
    numbers,
    read,
    record_of,
    train_on,
    write_image,
    write_mask,
)

CLASSES = ("sky", "house", "tree")


@pytest.fixture
def folder(tmp_path):
    """Twelve images with masks, half of these with palettes."""
    for number in range(12):
        write_image(tmp_path / "images" / f"{number}.jpg", number)
        write_mask(tmp_path / "masks" / f"{number}.png", numbers(number), palette=number % 2 == 1)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return tmp_path


def into_splits(folder, splits):
    """Moves every third image, and its mask, into the second of two folders for splits."""
    for part in ("images", "masks"):
        for path in sorted((folder / part).iterdir()):
            split = splits[int(path.stem) % 3 == 0]
            (folder / part / split).mkdir(exist_ok=True)
            path.rename(folder / part / split / path.name)


def test_masks_of_both_kinds_come_with_their_images(folder):
    source = open_source(f"masks:{folder}")
    assert source.fields == ("mask",)
    assert source.class_names == CLASSES
    assert source.left_out == ""
    found = {}
    for split in ("train", "validation"):
        targets, skipped = read(source, split)
        assert skipped.count == 0
        listed = names(source, split)
        assert source.num_examples(split) == len(listed) == len(targets) > 0
        found |= {name: y["mask"][0].numpy() for name, y in zip(listed, targets, strict=True)}
    assert len(found) == 12
    for number in range(12):
        np.testing.assert_array_equal(
            found[str(folder / "images" / f"{number}.jpg")], numbers(number)
        )


def test_training_gets_masks(folder):
    batches, skipped = train_on(open_source(f"masks:{folder}"))
    assert skipped.count == 0
    for images, masks in batches:
        assert masks.shape == images.shape[:3]
        assert set(np.unique(masks)) <= {0, 1, 2, 255}


def test_a_part_is_held_out_by_names(folder):
    before = names(open_source(f"masks:{folder}"), "validation")
    assert 0 < len(before) < 12
    for number in range(20, 40):
        write_image(folder / "images" / f"{number}.jpg")
        write_mask(folder / "masks" / f"{number}.png", numbers(number))
    (folder / "images" / "7.jpg").unlink()
    after = names(open_source(f"masks:{folder}"), "validation")
    old = {str(folder / "images" / f"{number}.jpg") for number in range(12)}
    assert set(after) & old == set(before) - {str(folder / "images" / "7.jpg")}
    few = names(MaskFolder(folder, validation_fraction=0.01), "validation")
    assert len(few) < len(after)
    with pytest.raises(ValueError, match="between 0 and 1. Received: 0.0"):
        MaskFolder(folder, validation_fraction=0.0)


@pytest.mark.parametrize(
    ("splits"), [("train", "validation"), ("train", "val"), ("Train", "valid"), ("train", "test")]
)
def test_folders_for_the_splits(folder, splits):
    into_splits(folder, splits)
    source = open_source(f"masks:{folder}")
    assert names(source, "validation") == [
        str(folder / "images" / splits[1] / f"{number}.jpg") for number in (0, 3, 6, 9)
    ]
    for split in ("train", "validation"):
        targets, skipped = read(source, split)
        assert skipped.count == 0
        for name, y in zip(names(source, split), targets, strict=True):
            number = int(name.split("/")[-1].removesuffix(".jpg"))
            np.testing.assert_array_equal(y["mask"][0], numbers(number))


def test_folders_inside_of_a_split(folder):
    into_splits(folder, ("train", "val"))
    for part, extension in (("images", "jpg"), ("masks", "png")):
        (folder / part / "train" / "street").mkdir()
        source = folder / part / "train" / f"1.{extension}"
        source.rename(folder / part / "train" / "street" / f"2.{extension}")
    # The same name stands for two images, each with a mask of its own.
    targets, skipped = read(open_source(f"masks:{folder}"))
    assert skipped.count == 0
    assert len(targets) == 8
    assert sum(np.array_equal(y["mask"][0], numbers(1)) for y in targets) == 1


def test_names_stored_in_two_ways_are_one(folder):
    for part, form, extension in (("images", "NFC", "jpg"), ("masks", "NFD", "png")):
        path = folder / part / f"3.{extension}"
        path.rename(folder / part / unicodedata.normalize(form, f"häuser.{extension}"))
    source = open_source(f"masks:{folder}")
    assert source.left_out == ""
    assert sum(read(source, split)[1].count for split in ("train", "validation")) == 0


def bad_masks(folder):
    """One of each kind of bad mask, by what is said of it."""
    into_splits(folder, ("train", "val"))
    masks = folder / "masks" / "train"
    (masks / "1.png").unlink()
    write_mask(masks / "2.png", numbers(2, height=25))
    wrong = numbers(4)
    wrong[3, 4] = 12
    write_mask(masks / "4.png", wrong)
    (masks / "5.png").write_bytes(encode(smooth_image(5, 24, 36), "PNG"))
    whole = (masks / "7.png").read_bytes()
    (masks / "7.png").write_bytes(whole[: len(whole) // 2])
    (masks / "8.png").write_bytes(b"no image at all, but long enough to be one")
    return {
        "1": "there is no mask",
        "2": "its mask has 36 x 25 pixels, and the image has 36 x 24",
        "4": "its mask holds 12, and classes are from 0 to 2",
        "5": "its mask is RGB, colours in place of class numbers",
        "7": "its mask",
        "8": "its mask",
    }


def test_bad_masks_are_skipped_and_named(folder):
    expected = bad_masks(folder)
    source = open_source(f"masks:{folder}")
    # Known once they are read; only then can they stop whoever is strict.
    assert source.num_examples("train") == 8
    targets, skipped = read(source)
    assert len(targets) == 2
    images = folder / "images" / "train"
    assert set(skipped.names) == {str(images / f"{key}.jpg") for key in expected}
    for key, what in expected.items():
        mask = folder / "masks" / "train" / f"{key}.png"
        why = source.why_unreadable(record_of(images / f"{key}.jpg", mask))
        assert why.startswith(what) and why.endswith(str(mask))
        assert f"{key}.jpg ({why})" in str(skipped)
    good = record_of(images / "10.jpg", folder / "masks" / "train" / "10.png")
    assert source.why_unreadable(good) == ""
    _, skipped = train_on(source)
    assert skipped.count == len(expected)
    with pytest.raises(ValueError, match=r"must be readable. Received: .*jpg \(.*mask"):
        train_on(source, strict=True)


def test_where_no_mask_can_be_used_the_first_one_says_why(folder):
    for path in (folder / "masks").iterdir():
        path.write_bytes(encode(smooth_image(0, 24, 36), "PNG"))
    with pytest.raises(ValueError, match=r"the first is .*jpg \(its mask is RGB, colours in place"):
        train_on(open_source(f"masks:{folder}"))


def test_what_is_wrong_with_the_image_is_said_of_it(folder, monkeypatch):
    into_splits(folder, ("train", "val"))
    image = folder / "images" / "train" / "1.jpg"
    mask = folder / "masks" / "train" / "1.png"
    mask.unlink()
    source = open_source(f"masks:{folder}")
    record = record_of(image, mask)
    monkeypatch.setattr("mobilevit_keras.data.decoding.MAX_PIXELS", 10)
    assert "megapixels" in source.why_unreadable(record)
    monkeypatch.undo()
    write_mask(mask, numbers(1))
    image.write_bytes(b"damaged")
    assert source.why_unreadable(record) == ""


def test_what_is_left_out_is_counted(folder):
    write_mask(folder / "masks" / "alone.png", numbers(0))
    (folder / "masks" / "0.jpg").write_bytes(b"")
    (folder / "images" / "notes.txt").write_text("no image")
    assert open_source(f"masks:{folder}").left_out == (
        "3 files left out: 1 .txt (no image), images/notes.txt; 1 .jpg (no PNG mask), masks/0.jpg; "
        "1 mask(s) without an image, masks/alone.png"
    )


def test_missing_class_names_are_asked_for(folder):
    (folder / "classes.txt").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"classes.txt must name the classes, one a line, that of number 0 first \(255 is none"
        r"\). Received: no such file, and masks that hold 0, 1, 2, 255",
    ):
        open_source(f"masks:{folder}")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "two classes or more"),
        (b"sky\n", "two classes or more"),
        (b"sky\n\ntree\n", "line 2: ''"),
        (b"sky\ntree\nsky\n", "line 3: 'sky'"),
        (b"sk\xff\n", "text in UTF-8"),
        ("\n".join(map(str, range(256))).encode(), "255 classes apart at most. Received: 256"),
    ],
)
def test_bad_class_names(folder, contents, message):
    (folder / "classes.txt").write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        open_source(f"masks:{folder}")


def test_class_names_may_come_from_another_system(folder):
    (folder / "classes.txt").write_bytes("\ufeffsky\r\nhouse \r\nBäume\r\n\r\n".encode())
    assert open_source(f"masks:{folder}").class_names == ("sky", "house", "Bäume")


def test_bad_folders(folder, tmp_path):
    for missing in ("images", "masks"):
        (folder / missing).rename(folder / "elsewhere")
        with pytest.raises(
            FileNotFoundError, match=f"needed. Received: masks:.*without '{missing}"
        ):
            open_source(f"masks:{folder}")
        (folder / "elsewhere").rename(folder / missing)
    (folder / "masks").rename(folder / "saved")
    (folder / "masks").mkdir()
    with pytest.raises(ValueError, match="needs its mask, `masks/NAME.png`. Received: no image"):
        open_source(f"masks:{folder}")
    (folder / "masks").rmdir()
    (folder / "saved").rename(folder / "masks")
    (folder / "images" / "train").mkdir()
    (folder / "images" / "val").mkdir()
    with pytest.raises(ValueError, match="same folders for the splits. Received: images/train and"):
        open_source(f"masks:{folder}")
    (folder / "images" / "train").rmdir()
    with pytest.raises(ValueError, match="also needs 'train'"):
        open_source(f"masks:{folder}")
