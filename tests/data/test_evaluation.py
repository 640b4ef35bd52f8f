import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data import decoding
from mobilevit_keras.data.evaluation import EvaluationDataset, take_images
from mobilevit_keras.data.images import evaluation_transform, load_images
from mobilevit_keras.data.skipped import SkippedImages, clear_errors
from mobilevit_keras.data.sources.image_folder import ImageFolder
from tests.data.images import NumberedImages
from tests.masks import ColouredScenes


@dataclasses.dataclass
class Preprocessing:
    short_side: int
    crop_size: int
    interpolation: str
    resize: str = "crop"


def test_each_image_once_in_order_through_the_transform(image_folder):
    source = ImageFolder(image_folder)
    dataset = EvaluationDataset(source, "train", short_side=48, crop_size=40, batch_size=10)
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    examples = list(source.examples("train"))
    assert [len(labels) for _, labels in batches] == [10, 10, len(examples) - 20]
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in batches]), [e["label"] for e in examples]
    )
    images = np.concatenate([images for images, _ in batches])
    assert images.shape == (len(examples), 40, 40, 3)
    for image, example in zip(images[::5], examples[::5], strict=True):
        np.testing.assert_array_equal(image, evaluation_transform(example["image"], 48, 40))
    assert dataset.element_spec[0].shape.as_list() == [None, 40, 40, 3]


def test_unreadable_images_are_left_out_and_named(image_folder):
    source = ImageFolder(image_folder)
    examples = list(source.examples("validation"))
    files = [example["name"].numpy().decode() for example in examples]
    expected = [int(example["label"]) for example in examples[:3] + examples[4:]]
    with open(files[3], "wb") as file:
        file.write(b"no image")
    skipped = SkippedImages()
    for _ in range(2):
        dataset = EvaluationDataset(
            source, "validation", short_side=32, crop_size=32, batch_size=4, skipped=skipped
        )
        labels = np.concatenate([labels for _, labels in dataset])
        assert labels.tolist() == expected
    assert skipped.count == 1
    assert skipped.names == (files[3],)


def test_strict_stops(image_folder):
    source = ImageFolder(image_folder)
    (image_folder / "cat" / "0.jpg").write_bytes(b"")
    skipped = SkippedImages(strict=True)
    with pytest.raises(ValueError, match="^Every image must be readable. Received: .*0.jpg.$"):
        with clear_errors(source, skipped):
            for split in ("train", "validation"):
                dataset = EvaluationDataset(
                    source, split, short_side=32, crop_size=32, skipped=skipped
                )
                list(dataset)


def test_sides_of_their_own(image_folder):
    source = ImageFolder(image_folder)
    dataset = EvaluationDataset(source, short_side=36, crop_size=(32, 48), batch_size=100)
    ((images, _),) = dataset
    assert images.shape[1:] == (32, 48, 3)
    first = next(iter(source.examples("validation")))["image"]
    np.testing.assert_array_equal(images[0], evaluation_transform(first, 36, (32, 48)))
    assert EvaluationDataset(source, crop_size=(128, 256)).short_side == 144


def test_each_worker_loads_its_own_images_alone(image_folder, monkeypatch):
    source = ImageFolder(image_folder)
    loaded = []

    def load(self, image):
        def note(name):
            loaded.append(name)
            return name

        return tf.io.read_file(tf.numpy_function(note, [image], tf.string))

    monkeypatch.setattr(ImageFolder, "load", load)
    dataset = EvaluationDataset(source, "train", crop_size=32, batch_size=4)
    shards = [dataset.dataset(num_shards=3, shard_index=index) for index in range(3)]
    parts = []
    for shard in shards:
        loaded.clear()
        parts.append(np.concatenate([images for images, _ in shard]))
        assert len(set(loaded)) == len(loaded) == len(parts[-1])
    whole = np.concatenate([images for images, _ in dataset])
    for index, part in enumerate(parts):
        np.testing.assert_array_equal(whole[index::3], part)


def test_images_are_taken_from_all_classes_and_what_is_unreadable_is_counted(image_folder):
    source = ImageFolder(image_folder)
    files = [e["name"].numpy().decode() for e in source.examples("train", shuffle_seed=0)]
    for file in files[1:3]:
        with open(file, "wb") as stream:
            stream.write(b"no image")
    wanted = Preprocessing(40, 32, "bilinear")
    images, skipped = take_images(source, "train", wanted, 4)
    assert images.shape == (4, 32, 32, 3)
    assert set(skipped.names) == set(files[1:3])
    for image, file in zip(images, [files[0], *files[3:6]], strict=True):
        with open(file, "rb") as stream:
            contents = stream.read()
        np.testing.assert_array_equal(image, evaluation_transform(contents, 40, 32))
    everything, _ = take_images(source, "train", wanted, 1000)
    assert len(everything) == len(files) - 2
    for file in image_folder.rglob("*.jpg"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="no image of the split 'train' can be read; .*jpg, .*jpg"):
        take_images(source, "train", wanted, 4)


def test_images_are_taken_without_a_look_at_their_masks(monkeypatch):
    source = ColouredScenes()
    monkeypatch.setattr(source, "load_mask", lambda mask: pytest.fail("a mask was loaded"))
    images, skipped = take_images(source, "train", Preprocessing(40, 32, "bilinear"), 4)
    assert images.shape == (4, 32, 32, 3) and skipped.count == 0


def test_strict_evaluation_ends_in_one_clear_line(image_folder):
    source = ImageFolder(image_folder)
    for file in image_folder.rglob("*.jpg"):
        file.write_bytes(b"")
    dataset = EvaluationDataset(source, crop_size=32, strict=True)
    with pytest.raises(ValueError, match="^Every image must be readable. Received: .*jpg.$"):
        with dataset.clear_errors():
            list(dataset)
    with pytest.raises(ValueError, match="`strict` goes with a `skipped` of its own"):
        EvaluationDataset(source, crop_size=32, strict=True, skipped=SkippedImages())


def test_skipped_images_say_more_where_there_is_more_to_say(image_folder, monkeypatch):
    source = ImageFolder(image_folder)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    dataset = EvaluationDataset(source, crop_size=32)
    with pytest.raises(ValueError, match="is needed. Received: .*0 megapixels"):
        load_images([image_folder / "cat" / "0.jpg"], 32, 32)
    assert list(dataset) == []
    assert dataset.skipped.count == source.num_examples("validation")
    assert "jpg (128 x 96 are 0 megapixels, and at most 0 are decoded)" in str(dataset.skipped)


def test_bad_arguments():
    source = NumberedImages(3)
    with pytest.raises(ValueError, match="crop_size=40, short_side=32"):
        EvaluationDataset(source, "train", short_side=32, crop_size=40)
    with pytest.raises(ValueError, match="`batch_size` must be positive. Received: 0"):
        EvaluationDataset(source, "train", short_side=32, crop_size=32, batch_size=0)
    with pytest.raises(ValueError, match="`split` must be one of"):
        EvaluationDataset(source, "test", short_side=32, crop_size=32)
