import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data import open_source
from mobilevit_keras.data.images import evaluation_transform
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.sources.image_folder import ImageFolder
from tests.data.images import NumberedImages, encode, smooth_image

ARGUMENTS = {"sizes": (32, 48), "base_size": 32, "batch_size": 16}


@pytest.fixture(scope="module")
def numbered():
    return NumberedImages(100)


@pytest.fixture(scope="module")
def pipeline(numbered):
    return MultiScaleDataset(numbered, **ARGUMENTS, seed=7)


def play(dataset):
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def assert_equal_batches(first, second):
    assert len(first) == len(second)
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("epoch", [0, 3])
def test_epoch_follows_the_schedule_and_sees_each_image_once(pipeline, epoch):
    steps = pipeline.steps(epoch)
    batches = play(pipeline.epoch(epoch))
    shapes = [images.shape for images, _ in batches]
    expected = zip(steps.batch_sizes, steps.heights, steps.widths, strict=True)
    assert shapes == [(count, height, width, 3) for count, height, width in expected]
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(np.sort(labels[:100]), np.arange(100))
    # The short last batch is filled from the epoch's start.
    np.testing.assert_array_equal(labels[100:], labels[: len(labels) - 100])
    for images, labels in batches:
        # Every image is of the one colour that its label says: images and labels stay together.
        wanted = np.broadcast_to(labels[:, None, None, None] / 255, images.shape)
        np.testing.assert_allclose(images, wanted, atol=1e-6)


def test_a_batch_larger_than_the_epoch_goes_round():
    pipeline = MultiScaleDataset(NumberedImages(10), sampler="fixed", base_size=32, batch_size=24)
    ((images, labels),) = play(pipeline.epoch(0))
    assert images.shape == (24, 32, 32, 3)
    np.testing.assert_array_equal(np.sort(labels[:10]), np.arange(10))
    np.testing.assert_array_equal(labels[10:], np.resize(labels[:10], 14))


def test_dropped_last_batch(numbered):
    fixed = {"sampler": "fixed", "base_size": 32, "batch_size": 30, "last_batch": "drop"}
    labels = np.concatenate(
        [labels for _, labels in play(MultiScaleDataset(numbered, **fixed).epoch(0))]
    )
    assert len(labels) == len(set(labels)) == 90


def test_orders_differ_between_epochs_and_seeds(pipeline, numbered):
    def orders(pipeline, epochs):
        dataset = pipeline.dataset()
        for epoch in epochs:
            pipeline.next_epoch, pipeline.next_step = epoch, 0
            yield tuple(np.concatenate([labels for _, labels in play(dataset)])[:100])

    other = MultiScaleDataset(numbered, **ARGUMENTS, seed=8)
    assert len({*orders(pipeline, (0, 1, 2)), *orders(other, (0,))}) == 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Textured images, for what depends on crops."""
    root = tmp_path_factory.mktemp("textured")
    for index, name in enumerate(("cat", "dog")):
        (root / name).mkdir()
        for number in range(20):
            image_format = "JPEG" if number % 2 else "PNG"
            contents = encode(smooth_image(20 * index + number, 96, 144), image_format)
            (root / name / f"{number}.{image_format.lower()}").write_bytes(contents)
    return root


def test_resumed_epochs_equal_whole_ones(folder):
    def make():
        return MultiScaleDataset(ImageFolder(folder), **ARGUMENTS, seed=3)

    pipeline = make()
    whole = play(pipeline.epoch(2))
    again = make()
    dataset = again.dataset()
    for start in (0, 1, len(whole) - 1, len(whole)):
        again.next_epoch, again.next_step = 2, start
        assert_equal_batches(whole[start:], play(dataset))
    assert_equal_batches(whole[2:], play(pipeline.epoch(2, 2)))


def test_global_seed_does_not_matter(folder):
    batches = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        batches.append(play(MultiScaleDataset(ImageFolder(folder), **ARGUMENTS).epoch(0)))
    assert_equal_batches(*batches)


def test_one_dataset_plays_every_epoch(pipeline):
    dataset = pipeline.dataset()
    assert dataset.element_spec == (
        tf.TensorSpec((None, None, None, 3), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )
    for epoch in (1, 4):
        pipeline.next_epoch, pipeline.next_step = epoch, 0
        assert_equal_batches(play(dataset), play(pipeline.epoch(epoch)))


def test_shards_are_the_contiguous_parts_of_each_batch(folder):
    pipeline = MultiScaleDataset(
        ImageFolder(folder), sizes=(32, 48), base_size=32, batch_size=18, num_replicas=3
    )
    whole = play(pipeline.epoch(1))
    shards = [play(pipeline.epoch(1, num_shards=3, shard_index=index)) for index in range(3)]
    for batch, *parts in zip(whole, *shards, strict=True):
        assert len({len(labels) for _, labels in parts}) == 1
        np.testing.assert_array_equal(batch[0], np.concatenate([images for images, _ in parts]))
        np.testing.assert_array_equal(batch[1], np.concatenate([labels for _, labels in parts]))


def test_half_of_the_images_are_mirrored(tmp_path):
    """A left-to-right ramp tells whether it was mirrored, whatever the crop."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(100):
            (tmp_path / name / f"{number}.png").write_bytes(encode(ramp, "PNG"))
    fixed = {"sampler": "fixed", "base_size": 32, "batch_size": 80}
    for flip, expected in ((True, 0.5), (False, 0.0)):
        pipeline = MultiScaleDataset(ImageFolder(tmp_path), **fixed, horizontal_flip=flip)
        images = np.concatenate([images for images, _ in play(pipeline.epoch(0))])
        mirrored = images[:, 16, 0, 0] > images[:, 16, -1, 0]
        assert abs(mirrored.mean() - expected) <= 0.12
        # Crops differ in place and size: so do the brightest columns.
        assert len(np.unique(images.max((1, 2, 3)).round(3))) > 40


def test_no_augmentation_takes_the_largest_centred_crop(folder):
    source = ImageFolder(folder)
    pipeline = MultiScaleDataset(
        source, sampler="fixed", base_size=32, batch_size=8, augmentation="none", seed=5
    )
    images, _ = play(pipeline.epoch(0))[0]
    examples = list(source.examples("train", shuffle_seed=(5, 0)).take(8))
    for image, example in zip(images, examples, strict=True):
        if example["name"].numpy().endswith(b"png"):  # not halved inside of the decoder
            expected = evaluation_transform(example["image"], 32, 32)
            np.testing.assert_allclose(image, expected, atol=1e-5)


def damage(folder, count):
    files = sorted(folder.rglob("*.jpg"))[::2][:count]
    for index, file in enumerate(files):
        contents = file.read_bytes()
        file.write_bytes([b"no image", b"", contents[: len(contents) // 2]][index % 3])
    return {str(file) for file in files}


def everything(folder):
    """All images in both splits, so that the tests know which ones are trained on."""
    source = ImageFolder(folder)
    splits = list(source._columns.values())
    columns = {key: tf.concat([split[key] for split in splits], 0) for key in splits[0]}
    source._columns = {split: columns for split in source._columns}
    source._num_examples = {split: 30 for split in source._columns}
    return source


def test_unreadable_images_are_skipped_counted_and_named(image_folder):
    source = everything(image_folder)
    clean = play(MultiScaleDataset(source, **ARGUMENTS).epoch(0))
    names = damage(image_folder, 12)
    pipeline = MultiScaleDataset(source, **ARGUMENTS)
    for _ in range(2):
        batches = play(pipeline.epoch(0))
    assert [images.shape for images, _ in batches] == [images.shape for images, _ in clean]
    assert pipeline.skipped.count == 12
    assert len(pipeline.skipped.names) == 10
    assert set(pipeline.skipped.names) < names
    assert str(pipeline.skipped).startswith("12 unreadable image(s) skipped: ")
    # What was readable is there, as it was; nothing else is.
    for (images, labels), (clean_images, clean_labels) in zip(batches, clean, strict=True):
        known = {
            image.tobytes(): label for image, label in zip(clean_images, clean_labels, strict=True)
        }
        assert all(
            known[image.tobytes()] == label for image, label in zip(images, labels, strict=True)
        )


def test_vanished_file_is_skipped_and_named(image_folder):
    pipeline = MultiScaleDataset(
        everything(image_folder), sampler="fixed", base_size=32, batch_size=10
    )
    play(pipeline.epoch(0))
    lost = image_folder / "dog" / "3.jpg"
    lost.unlink()
    assert sum(len(labels) for _, labels in play(pipeline.epoch(1))) == 30
    assert pipeline.skipped.names == (str(lost),)


def test_strict_stops_with_the_name(image_folder):
    (name,) = damage(image_folder, 1)
    pipeline = MultiScaleDataset(everything(image_folder), **ARGUMENTS, strict=True)
    with pytest.raises(ValueError, match="must be readable. Received: " + name):
        with pipeline.clear_errors():
            play(pipeline.epoch(0))


def test_a_step_without_a_readable_image_is_an_error(image_folder):
    for file in image_folder.rglob("*.jpg"):
        file.write_bytes(b"no image")
    pipeline = MultiScaleDataset(ImageFolder(image_folder), **ARGUMENTS)
    with pytest.raises(ValueError, match="A step needs an image that can be read"):
        with pipeline.clear_errors():
            play(pipeline.epoch(0))


def test_bad_arguments(numbered, pipeline):
    with pytest.raises(ValueError, match="`augmentation` must be one of .*'mixup'"):
        MultiScaleDataset(numbered, **ARGUMENTS, augmentation="mixup")
    with pytest.raises(ValueError, match="rising fractions"):
        MultiScaleDataset(numbered, **ARGUMENTS, crop_area=(0.5, 1.5))
    with pytest.raises(ValueError, match="`seed` must not be negative"):
        MultiScaleDataset(numbered, **ARGUMENTS, seed=-1)
    with pytest.raises(ValueError, match="Received: 1000"):
        pipeline.epoch(0, 1000)
    with pytest.raises(ValueError, match="`num_shards` must divide"):
        pipeline.epoch(0, num_shards=2)
    with pytest.raises(ValueError, match="shard_index=1, num_shards=1"):
        pipeline.epoch(0, shard_index=1)
    short = {"sampler": "fixed", "base_size": 32, "batch_size": 128, "last_batch": "drop"}
    with pytest.raises(ValueError, match="one batch. Received: 100 images"):
        MultiScaleDataset(numbered, **short)


def test_crops_are_resized_as_asked():
    source = open_source("digits")
    images = {}
    for interpolation in ("bilinear", "bicubic"):
        dataset = MultiScaleDataset(
            source, sampler="fixed", base_size=32, batch_size=8, interpolation=interpolation
        )
        images[interpolation] = next(iter(dataset.epoch(0)))[0].numpy()
    difference = np.abs(images["bicubic"] - images["bilinear"])
    # The same crops, but for what lies between their pixels.
    assert 0.05 < difference.max() and difference.mean() < 0.05
    assert images["bicubic"].min() >= 0.0 and images["bicubic"].max() <= 1.0
    with pytest.raises(ValueError, match="`interpolation` must be one of .* Received: 'nearest'"):
        MultiScaleDataset(source, interpolation="nearest")
