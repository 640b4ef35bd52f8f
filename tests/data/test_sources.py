import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data.skipped import SkippedImages
from mobilevit_keras.data.source import permutation
from mobilevit_keras.data.sources import open_source
from mobilevit_keras.data.sources.image_folder import ImageFolder
from tests.data.images import NumberedImages, encode


def names(dataset):
    return [example["name"].decode() for example in dataset.as_numpy_iterator()]


def test_permutation_is_one_and_depends_on_each_number():
    first = permutation((0, 1), 1000)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    np.testing.assert_array_equal(first, permutation((0, 1), 1000))
    assert not np.array_equal(first, permutation((1, 0), 1000))
    # The mean distance of two random places is a third of the length.
    assert np.abs(first - np.arange(1000)).mean() == pytest.approx(1000 / 3, rel=0.1)


def test_folder_holds_out_a_fixed_part_of_each_class(image_folder):
    source = open_source(f"folder:{image_folder}")
    assert source.class_names == ("cat", "dog", "emu")
    assert source.num_examples("train") == 24
    assert source.num_examples("validation") == 6
    splits = {}
    for split in ("train", "validation"):
        examples = list(source.examples(split).as_numpy_iterator())
        splits[split] = [example["name"].decode() for example in examples]
        for example in examples:
            name = example["name"].decode()
            assert source.class_names[example["label"]] == name.split("/")[-2]
            with open(name, "rb") as file:
                assert example["image"] == file.read()
    assert len(set(splits["train"]) | set(splits["validation"])) == 30
    for split, each in (("train", 8), ("validation", 2)):
        counts = [sum(f"/{key}/" in name for name in splits[split]) for key in source.class_names]
        assert counts == [each] * 3
    again = open_source(f"folder:{image_folder}")
    assert names(again.examples("validation")) == splits["validation"]
    half = ImageFolder(image_folder, validation_fraction=0.5)
    assert half.num_examples("validation") == 15


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
    skipped = SkippedImages()
    assert str(skipped) == "no unreadable images"
    for _ in range(2):
        for number in range(12):
            skipped.add(f"{number}.jpg")
    assert skipped.count == 12
    assert skipped.names == tuple(f"{number}.jpg" for number in range(10))
    assert str(skipped).endswith("9.jpg, …")
    with pytest.raises(ValueError, match="must be readable. Received: a.jpg"):
        SkippedImages(strict=True).add("a.jpg")


def test_global_seed_does_not_change_a_folders_order(image_folder):
    source = open_source(f"folder:{image_folder}")
    tf.random.set_seed(1)
    first = names(source.examples("train", shuffle_seed=(1, 2)))
    tf.random.set_seed(2)
    assert names(source.examples("train", shuffle_seed=(1, 2))) == first
