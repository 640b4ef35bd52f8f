import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data import EvaluationDataset, MultiScaleDataset
from mobilevit_keras.data.skipped import SkippedImages
from mobilevit_keras.data.source import permutation
from mobilevit_keras.data.sources import image_folder as image_folder_module
from mobilevit_keras.data.sources import open_source
from mobilevit_keras.data.sources.image_folder import ImageFolder
from tests.data.images import NumberedImages, encode, smooth_image


def names(dataset):
    return [example["name"].decode() for example in dataset.as_numpy_iterator()]


def test_permutation_is_one_and_depends_on_each_number():
    first = permutation((0, 1), 1000)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    np.testing.assert_array_equal(first, permutation((0, 1), 1000))
    assert not np.array_equal(first, permutation((1, 0), 1000))
    # The mean distance of two random places is a third of the length.
    assert np.abs(first - np.arange(1000)).mean() == pytest.approx(1000 / 3, rel=0.1)


def held_out(folder, **options):
    return set(names(ImageFolder(folder, **options).examples("validation")))


def test_folder_holds_out_a_part_of_each_class(image_folder):
    source = open_source(f"folder:{image_folder}")
    assert source.class_names == ("cat", "dog", "emu")
    assert source.left_out == ""
    splits = {}
    for split in ("train", "validation"):
        examples = list(source.examples(split).as_numpy_iterator())
        splits[split] = [example["name"].decode() for example in examples]
        assert len(examples) == source.num_examples(split)
        for example in examples:
            name = example["name"].decode()
            assert source.class_names[example["label"]] == name.split("/")[-2]
            with open(name, "rb") as file:
                assert example["image"] == file.read()
        assert {name.split("/")[-2] for name in splits[split]} == set(source.class_names)
    assert len(splits["train"]) + len(splits["validation"]) == 30
    assert len(set(splits["train"]) | set(splits["validation"])) == 30


def numbered_files(root, count, prefix=""):
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{prefix}{number}.jpg").write_bytes(b"")


def test_the_part_is_what_was_asked_for(tmp_path):
    numbered_files(tmp_path, 1000)
    for fraction in (0.1, 0.2, 0.5):
        # Three standard deviations of 2,000 draws.
        part = len(held_out(tmp_path, validation_fraction=fraction)) / 2000
        assert part == pytest.approx(fraction, abs=3 * np.sqrt(fraction * (1 - fraction) / 2000))
    assert held_out(tmp_path, validation_fraction=0.1) < held_out(tmp_path)


def test_images_that_come_or_go_move_no_other(tmp_path):
    numbered_files(tmp_path, 60)
    before = held_out(tmp_path)
    removed = sorted(tmp_path.rglob("*.jpg"))[::7]
    for path in removed:
        path.unlink()
    assert held_out(tmp_path) == before - {str(path) for path in removed}
    numbered_files(tmp_path, 40, "new-")
    numbered_files(tmp_path / "emu", 10)
    after = held_out(tmp_path)
    assert {name for name in after if "new" not in name and "emu" not in name} == before - {
        str(path) for path in removed
    }


def test_the_split_is_the_same_for_every_seed_and_wherever_the_folder_lies(tmp_path):
    """An order's seed, the folder's own name, the way a letter is stored: none of them counts."""
    sides = []
    for root, letter in (("one", "\u00fc"), ("two", "u\u0308")):
        numbered_files(tmp_path / root, 30, letter)
        source = ImageFolder(tmp_path / root)
        for seed in (None, 0, 5):
            found = names(source.examples("validation", shuffle_seed=seed))
            numbers = [(Path(name).parent.name, Path(name).name.lstrip(letter)) for name in found]
            sides.append(set(numbers))
    assert all(side == sides[0] for side in sides)
    # Fixed for good: a run that goes on next year must not validate on what it was trained on.
    assert sorted(number for name, number in sides[0] if name == "cat")[:4] == [
        "1.jpg",
        "2.jpg",
        "20.jpg",
        "24.jpg",
    ]


def test_small_classes_have_both_sides(tmp_path):
    for count in range(2, 8):
        for number in range(12):
            numbered_files(tmp_path / str(count) / str(number), count)
        source = ImageFolder(tmp_path / str(count))
        for split in ("train", "validation"):
            found = {name.split("/")[-3] for name in names(source.examples(split))}
            assert found == {str(number) for number in range(12)}
    numbered_files(tmp_path / "1" / "few", 1)
    numbered_files(tmp_path / "1" / "many", 5)
    (tmp_path / "1" / "few" / "dog" / "0.jpg").unlink()
    source = ImageFolder(tmp_path / "1")
    assert any("few" in name for name in names(source.examples("train")))
    assert not any("few" in name for name in names(source.examples("validation")))


def test_folder_order_is_a_permutation_by_seed_and_epoch(image_folder):
    source = open_source(f"folder:{image_folder}")
    orders = {epoch: names(source.examples("train", shuffle_seed=(0, epoch))) for epoch in (0, 1)}
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == names(source.examples("train"))
    assert names(source.examples("train", shuffle_seed=(0, 1), start=7)) == orders[1][7:]
    assert names(source.examples("train", start=20)) == names(source.examples("train"))[20:]
    assert names(source.examples("train", shuffle_seed=3)) == names(
        source.examples("train", shuffle_seed=(3, 0))
    )


def test_folder_with_splits_on_disk(tmp_path):
    picture = encode(np.zeros((4, 4, 3), np.uint8), "PNG")
    for split, keys in (("train", "abc"), ("validation", "ab")):
        for key in keys:
            (tmp_path / split / key / "deeper").mkdir(parents=True)
            (tmp_path / split / key / "1.PNG").write_bytes(picture)
            (tmp_path / split / key / "deeper" / "2.png").write_bytes(picture)
            (tmp_path / split / key / ".hidden.png").write_bytes(picture)
            (tmp_path / split / key / "notes.txt").write_text("no image")
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("a", "b", "c")
    assert (source.num_examples("train"), source.num_examples("validation")) == (6, 4)


def test_a_class_may_be_called_train(tmp_path):
    picture = encode(np.zeros((4, 4, 3), np.uint8), "PNG")
    for key in ("train", "plane"):
        (tmp_path / key).mkdir()
        for number in range(5):
            (tmp_path / key / f"{number}.png").write_bytes(picture)
    assert open_source(f"folder:{tmp_path}").class_names == ("plane", "train")


@pytest.mark.parametrize(
    ("train", "validation", "others"),
    [
        ("Train", "Validation", []),
        ("train", "val", ["test"]),
        ("TRAIN", "valid", []),
        ("train", "Test", []),
    ],
)
def test_usual_names_of_split_folders(tmp_path, train, validation, others):
    numbered_files(tmp_path / train, 3)
    for name in (validation, *others):
        numbered_files(tmp_path / name, 2)
    source = ImageFolder(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert (source.num_examples("train"), source.num_examples("validation")) == (6, 4)
    assert all(f"/{validation}/" in name for name in names(source.examples("validation")))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "Train", "val"), r"must be 'train'. Received: \['Train', 'train'\]"),
        (
            ("train", "val", "valid"),
            r"must be 'validation'. Received: \['val', 'valid'\]",
        ),
        (("train",), "also needs 'validation'"),
        (("val",), "also needs 'train'"),
    ],
)
def test_split_folders_that_may_be_several(tmp_path, folders, message):
    for name in folders:
        numbered_files(tmp_path / name, 3)
    with pytest.raises(ValueError, match=message):
        ImageFolder(tmp_path)


def test_links_count_an_image_once(image_folder):
    """Loops, a second way to a class, to an image, and to all of them: nothing appears twice."""
    plain = ImageFolder(image_folder)
    (image_folder / "cat" / "loop").symlink_to(image_folder)
    (image_folder / "dog" / "up").symlink_to("..")
    (image_folder / "self").symlink_to(image_folder)
    (image_folder / "emu" / "again.jpg").symlink_to(image_folder / "cat" / "3.jpg")
    source = ImageFolder(image_folder)
    assert source.class_names == plain.class_names
    for split in ("train", "validation"):
        assert names(source.examples(split)) == names(plain.examples(split))
    assert "to an image that is there already" in source.left_out
    # What lies elsewhere and is linked here counts as it did.
    for path in (image_folder / "cat" / "loop", image_folder / "dog" / "up", image_folder / "self"):
        path.unlink()
    outside = image_folder.parent / "outside"
    outside.mkdir()
    (image_folder / "dog" / "9.jpg").rename(outside / "9.jpg")
    (image_folder / "dog" / "more").symlink_to(outside)
    assert sum(ImageFolder(image_folder).num_examples(s) for s in ("train", "validation")) == 30


def test_an_image_of_both_split_folders_is_trained_on_alone(tmp_path):
    numbered_files(tmp_path / "train", 3)
    numbered_files(tmp_path / "validation", 2)
    (tmp_path / "validation" / "cat" / "leak.jpg").symlink_to(tmp_path / "train" / "cat" / "0.jpg")
    source = ImageFolder(tmp_path)
    assert not any("leak" in name for name in names(source.examples("validation")))
    assert "such" not in source.left_out and "leak.jpg" in source.left_out


def test_what_is_left_out_is_counted_and_named(image_folder, monkeypatch):
    monkeypatch.setattr(image_folder_module, "image_extensions", lambda: (".jpg", ".webp"))
    for number in range(3):
        (image_folder / "cat" / f"phone-{number}.HEIC").write_bytes(b"")
    (image_folder / "dog" / "notes.txt").write_text("no image")
    (image_folder / "dog" / ".hidden").write_text("hidden")
    (image_folder / "dog" / "README").write_text("no image")
    assert ImageFolder(image_folder).left_out == (
        "5 files left out: 3 .heic (install pillow-heif), such as cat/phone-0.HEIC; "
        "1 without extension (no image), dog/README; 1 .txt (no image), dog/notes.txt"
    )
    for path in (image_folder / "emu").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(ValueError, match=r"nothing in \['emu'\] \(15 files left out: 13 .heic"):
        ImageFolder(image_folder)


def test_other_formats_are_trained_on(image_folder):
    for image_format in ("WEBP", "TIFF", "AVIF"):
        contents = encode(smooth_image(3), image_format)
        (image_folder / "cat" / f"other.{image_format.lower()}").write_bytes(contents)
    source = ImageFolder(image_folder)
    dataset = MultiScaleDataset(source, sizes=(32,), base_size=32, batch_size=8, strict=True)
    assert source.left_out == ""
    assert sum(source.num_examples(split) for split in ("train", "validation")) == 33
    assert sum(len(labels) for _, labels in dataset) >= source.num_examples("train")


def test_names_that_are_no_utf_8(image_folder):
    folder, odd = os.fsencode(image_folder / "cat"), b"caf\xe9-%d.jpg"
    for number in range(8):
        os.rename(folder + b"/%d.jpg" % number, folder + b"/" + odd % number)
    source = ImageFolder(image_folder)
    listed = [e["name"].numpy() for s in ("train", "validation") for e in source.examples(s)]
    assert sum(b"caf\xe9" in name for name in listed) == 8
    with open(folder + b"/" + odd % 1, "wb") as file:
        file.write(b"no image")
    skipped = SkippedImages()
    for split in ("train", "validation"):
        list(EvaluationDataset(source, split, crop_size=32, skipped=skipped))
    assert skipped.count == 1
    assert "caf\ufffd-1.jpg" in str(skipped)


@pytest.mark.parametrize("name", [b"two\nlines", b"caf\xe9", b"bell\x07", "para\u2029".encode()])
def test_class_names_are_lines_of_text(tmp_path, name):
    numbered_files(tmp_path, 3)
    os.rename(os.fsencode(tmp_path / "dog"), os.fsencode(tmp_path) + b"/" + name)
    with pytest.raises(ValueError, match="class's name must be one line of text") as caught:
        ImageFolder(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    str(caught.value).encode()


def test_class_names_may_be_of_any_script(tmp_path):
    numbered_files(tmp_path, 3)
    for old, new in (("cat", "Käuzchen"), ("dog", "猫 क्‍ष 👩‍🔬")):
        (tmp_path / old).rename(tmp_path / new)
    assert set(ImageFolder(tmp_path).class_names) == {"Käuzchen", "猫 क्‍ष 👩‍🔬"}


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "a folder for each class"),
        (["1.jpg", "2.jpg"], "a folder for each class"),
        (["cat/1.jpg", "cat/2.jpg"], r"two classes or more. Received: \['cat'\]"),
        (["cat/1.jpg", "dog/notes.txt"], r"must hold images.*nothing in \['dog'\]"),
        (["cat/1.jpg", "dog/1.jpg"], "'validation' holds no images"),
        (["train/cat/1.jpg", "train/dog/1.jpg"], "also needs 'validation'"),
        (
            ["train/cat/1.jpg", "train/dog/1.jpg", "validation/emu/1.jpg"],
            r"'validation' must be in 'train'. Received: \['emu'\]",
        ),
    ],
)
def test_bad_folders(tmp_path, paths, message):
    make(tmp_path, *paths)
    with pytest.raises(ValueError, match=message):
        open_source(f"folder:{tmp_path}")


def test_bad_specifications(tmp_path):
    for text in ("", "imagenet", "folder:", "tfds:", "digits:1", "http:x"):
        with pytest.raises(ValueError, match=f"data source must be one of .*Received: '{text}'"):
            open_source(text)
    with pytest.raises(FileNotFoundError, match="absent"):
        open_source(f"folder:{tmp_path}/absent")
    with pytest.raises(ValueError, match="between 0 and 1. Received: 1.0"):
        ImageFolder(tmp_path, validation_fraction=1.0)
    with pytest.raises(ValueError, match="`split` must be one of .*'test'"):
        NumberedImages(3).num_examples("test")


def test_skipped_images_count_each_once_and_keep_ten_names():
    source, skipped = NumberedImages(3), SkippedImages()
    assert str(skipped) == "no unreadable images"
    for _ in range(2):
        for number in range(12):
            skipped.add({"name": b"%d.jpg" % number, "image": b""}, source)
    assert skipped.count == 12
    assert skipped.names == tuple(f"{number}.jpg" for number in range(10))
    assert str(skipped).endswith("9.jpg, …")
    with pytest.raises(ValueError, match="must be readable. Received: a.jpg"):
        SkippedImages(strict=True).add({"name": b"a.jpg", "image": b""}, source)


def test_global_seed_does_not_change_a_folders_order(image_folder):
    source = open_source(f"folder:{image_folder}")
    tf.random.set_seed(1)
    first = names(source.examples("train", shuffle_seed=(1, 2)))
    tf.random.set_seed(2)
    assert names(source.examples("train", shuffle_seed=(1, 2))) == first
