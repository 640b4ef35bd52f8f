"""Several workers: each decodes its own part alone, and together they have the one batch."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data import evaluation, multi_scale
from mobilevit_keras.data.evaluation import EvaluationDataset
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.sources import open_source
from mobilevit_keras.data.sources.digits import open_digits
from mobilevit_keras.data.sources.tfrecord import write_shards
from tests.data.images import NumberedImages
from tests.data.stand_in import write_stand_in

WORKERS = 3
EPOCH = 2


@pytest.fixture(scope="module", params=["folder", "tfds", "tfrecord"])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "tfds":
        return open_digits(str(folder))
    if request.param == "folder":
        write_stand_in(folder / "images")
        return open_source(f"folder:{folder}/images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(folder / "keras"))
        write_shards(NumberedImages(100), folder / "shards", 4)
        return open_source(f"tfrecord:{folder}/shards", shuffle_buffer=30)


@pytest.fixture
def decoded(monkeypatch):
    """The files that decoders are given from now on."""
    contents = []

    def note(content):
        contents.append(content)
        return content

    def noting(decode):
        def wrapped(content, *arguments):
            content = tf.numpy_function(note, [content], tf.string)
            return decode(tf.ensure_shape(content, ()), *arguments)

        return wrapped

    monkeypatch.setattr(multi_scale, "decode_window", noting(multi_scale.decode_window))
    monkeypatch.setattr(evaluation, "decode_image", noting(evaluation.decode_image))
    return contents


def play(dataset, decoded):
    """The batches, and how often each file was decoded for them."""
    decoded.clear()
    batches = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    return batches, collections.Counter(decoded)


def files(source, split, seed):
    records = source.examples(split, shuffle_seed=seed)
    return [record["image"] for record in records.as_numpy_iterator()]


def test_training(source, decoded):
    train = MultiScaleDataset(
        source, sizes=(32, 48), base_size=32, batch_size=18, num_replicas=WORKERS, seed=5
    )
    order = files(source, "train", (5, EPOCH))
    whole, _ = play(train.epoch(EPOCH), decoded)
    parts = []
    for index in range(WORKERS):
        batches, found = play(train.epoch(EPOCH, num_shards=WORKERS, shard_index=index), decoded)
        steps = train.steps(EPOCH)
        mine = collections.Counter()
        for start, count in zip(steps.starts, steps.batch_sizes // WORKERS, strict=True):
            first = start + index * count
            mine.update(order[place % len(order)] for place in range(first, first + count))
        assert found == mine
        parts.append(batches)
    for batch, *of_workers in zip(whole, *parts, strict=True):
        for values, *shares in zip(batch, *of_workers, strict=True):
            np.testing.assert_array_equal(values, np.concatenate(shares))


def test_validation(source, decoded):
    validation = EvaluationDataset(source, crop_size=32, batch_size=7)
    order = files(source, "validation", None)
    whole, _ = play(validation, decoded)
    whole = [np.concatenate(values) for values in zip(*whole, strict=True)]
    for index in range(WORKERS):
        part, found = play(validation.dataset(num_shards=WORKERS, shard_index=index), decoded)
        assert found == collections.Counter(order[index::WORKERS])
        for values, share in zip(whole, zip(*part, strict=True), strict=True):
            np.testing.assert_array_equal(values[index::WORKERS], np.concatenate(share))
