import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.sources import open_source
from mobilevit_keras.data.sources.digits import open_digits
from mobilevit_keras.data.sources.tfds import TfdsSource, open_tfds


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tensorflow_datasets"))


@pytest.fixture(scope="module")
def digits(data_dir):
    return open_digits(data_dir)


def names(dataset):
    return [example["name"] for example in dataset.as_numpy_iterator()]


def test_digits_are_scikit_learns(digits):
    assert digits.class_names == tuple("0123456789")
    assert digits.num_examples("train") == 1400
    assert digits.num_examples("validation") == 397
    stored = {}
    for split in ("train", "validation"):
        for example in digits.examples(split).as_numpy_iterator():
            pixels = np.asarray(Image.open(io.BytesIO(example["image"])))
            assert pixels.shape == (8, 8)
            stored.setdefault((pixels.tobytes(), int(example["label"])), []).append(split)
    original = load_digits()
    expected = [
        (np.round(image * 255 / 16).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(original.images, original.target, strict=True)
    ]
    assert sum(map(len, stored.values())) == len(expected) == 1797
    assert set(stored) == set(expected)
    # The split is fixed: it does not depend on where or when the data was generated.
    first = next(digits.examples("validation").as_numpy_iterator())
    assert first["name"].startswith(b"mobilevit_digits-validation.tfrecord")


def test_digits_are_generated_once(digits, data_dir, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("generated again")

    monkeypatch.setattr(
        "mobilevit_keras.data.sources.digits.MobilevitDigits._generate_examples", refuse
    )
    assert open_digits(data_dir).num_examples("train") == 1400


def test_order_is_a_function_of_seed_and_epoch(digits):
    orders = [names(digits.examples("train", shuffle_seed=(0, epoch))) for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert len(set(orders[0])) == 1400
    assert set(orders[0]) == set(orders[1])
    tf.random.set_seed(3)
    assert names(digits.examples("train", shuffle_seed=(0, 1), start=1300)) == orders[1][1300:]


def test_unwritable_folder_and_missing_package_are_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="digits: the data cannot be prepared in .*file"):
        open_digits(str(tmp_path / "file"))
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match="digits: its data needs a package .*sklearn"):
        open_digits(str(tmp_path / "folder"))


def imagenet(data_dir, num_train, num_validation):
    """Metadata such as a prepared ImageNet has; its records come from `mock_data`."""
    builder = tfds.builder("imagenet2012", data_dir=data_dir)
    infos = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[count],
            num_bytes=1,
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name="imagenet2012", data_dir=builder.data_dir, filetype_suffix="tfrecord"
            ),
        )
        for name, count in (("train", num_train), ("validation", num_validation))
    ]
    builder.info.set_splits(tfds.core.SplitDict(infos))
    Path(builder.data_dir).mkdir(parents=True)
    builder.info.write_to_directory(builder.data_dir)


def test_imagenet_through_its_decoders(tmp_path):
    imagenet(tmp_path, 10, 10)
    with tfds.testing.mock_data(num_examples=10, data_dir=str(tmp_path)):
        source = open_source("tfds:imagenet2012")
        assert len(source.class_names) == 1000
        assert source.class_names[0] == "n01440764"
        assert source.num_examples("train") == 10
        examples = list(source.examples("train").as_numpy_iterator())
        assert all(example["image"].startswith(b"\xff\xd8\xff") for example in examples)
        pipeline = MultiScaleDataset(
            source, sizes=(32, 64), base_size=64, batch_size=4, strict=True
        )
        steps = pipeline.steps(0)
        shapes = [images.shape for images, _ in pipeline.epoch(0)]
        assert shapes == [
            (count, size, size, 3)
            for count, size in zip(steps.batch_sizes, steps.heights, strict=True)
        ]
        labels = np.concatenate([labels.numpy() for _, labels in pipeline.epoch(0)])[:10]
        assert sorted(labels) == sorted(int(example["label"]) for example in examples)


class OneSplit(tfds.core.GeneratorBasedBuilder):
    """Coloured squares with a training split alone, and a feature that nobody asked for."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "picture": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "kind": tfds.features.ClassLabel(names=["dark", "bright"]),
                    "width": tfds.features.Scalar(np.int64),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(50):
            picture = np.full((20, 20 + number, 3), 5 * number, np.uint8)
            yield number, {"picture": picture, "kind": int(number >= 25), "width": 20 + number}


def test_a_set_without_validation_holds_out_a_fifth(tmp_path):
    builder = OneSplit(data_dir=str(tmp_path))
    builder.download_and_prepare()
    source = TfdsSource("tfds:one_split", builder, shuffle_buffer=8)
    assert (source.num_examples("train"), source.num_examples("validation")) == (40, 10)
    train = names(source.examples("train", shuffle_seed=(0, 0)))
    assert len(set(train) | set(names(source.examples("validation")))) == 50
    for example in source.examples("train", shuffle_seed=1).as_numpy_iterator():
        image = tf.io.decode_jpeg(example["image"]).numpy()
        assert int(example["label"]) == int(image.mean() >= 122)


def test_sets_that_cannot_be_used(tmp_path):
    with pytest.raises(ValueError, match="set is needed. Received: 'no_such_set_anywhere'"):
        open_tfds("no_such_set_anywhere")

    class Text(OneSplit):
        """No image."""

        def _info(self):
            features = {"label": tfds.features.ClassLabel(num_classes=2)}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

    with pytest.raises(
        ValueError, match=r"one image and one class label.*Received: Image features \[\]"
    ):
        TfdsSource("tfds:text", Text(data_dir=str(tmp_path)))
