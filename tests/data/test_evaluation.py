import numpy as np
import pytest

from mobilevit_keras.data.evaluation import EvaluationDataset, evaluation_transform
from mobilevit_keras.data.skipped import SkippedImages, clear_errors
from mobilevit_keras.data.sources.image_folder import ImageFolder
from tests.data.images import NumberedImages


def test_each_image_once_in_order_through_the_transform(image_folder):
    source = ImageFolder(image_folder)
    dataset = EvaluationDataset(source, "train", short_side=48, crop_size=40, batch_size=10)
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    assert [len(labels) for _, labels in batches] == [10, 10, 4]
    examples = list(source.examples("train"))
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in batches]), [e["label"] for e in examples]
    )
    images = np.concatenate([images for images, _ in batches])
    assert images.shape == (24, 40, 40, 3)
    for image, example in zip(images[::5], examples[::5], strict=True):
        np.testing.assert_array_equal(image, evaluation_transform(example["image"], 48, 40))
    assert dataset.element_spec[0].shape.as_list() == [None, 40, 40, 3]


def test_unreadable_images_are_left_out_and_named(image_folder):
    source = ImageFolder(image_folder)
    files = [example["name"].numpy().decode() for example in source.examples("validation")]
    with open(files[3], "wb") as file:
        file.write(b"no image")
    skipped = SkippedImages()
    for _ in range(2):
        dataset = EvaluationDataset(
            source, "validation", short_side=32, crop_size=32, batch_size=4, skipped=skipped
        )
        labels = np.concatenate([labels for _, labels in dataset])
        assert labels.tolist() == [0, 0, 1, 2, 2]
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


def test_bad_arguments():
    source = NumberedImages(3)
    with pytest.raises(ValueError, match="crop_size=40, short_side=32"):
        EvaluationDataset(source, "train", short_side=32, crop_size=40)
    with pytest.raises(ValueError, match="`batch_size` must be positive. Received: 0"):
        EvaluationDataset(source, "train", short_side=32, crop_size=32, batch_size=0)
    with pytest.raises(ValueError, match="`split` must be one of"):
        EvaluationDataset(source, "test", short_side=32, crop_size=32)
