import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from mobilevit_keras.data.masks import read_mask
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.sources import open_source
from mobilevit_keras.data.sources.digits import open_digits
from mobilevit_keras.data.sources.tfds import TfdsSource, open_tfds
from tests.data.sources.files import numbers, read, train_on


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


def prepared(name, data_dir, splits):
    """Metadata such as a prepared set has; its records come from `mock_data`."""
    builder = tfds.builder(name, data_dir=data_dir)
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[count],
            num_bytes=1,
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name=builder.name, data_dir=builder.data_dir, filetype_suffix="tfrecord"
            ),
        )
        for split, count in splits.items()
    ]
    builder.info.set_splits(tfds.core.SplitDict(infos))
    Path(builder.data_dir).mkdir(parents=True)
    builder.info.write_to_directory(builder.data_dir)


def test_imagenet_through_its_decoders(tmp_path):
    prepared("imagenet2012", tmp_path, {"train": 10, "validation": 10})
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


def test_pets_through_their_decoders(tmp_path):
    """Their masks say 1 for the pet, 2 for the background and 3 for the border between."""
    prepared("oxford_iiit_pet", tmp_path, {"train": 6, "test": 4})
    with tfds.testing.mock_data(num_examples=6, data_dir=str(tmp_path), max_value=4):
        assert len(open_source("tfds:oxford_iiit_pet").class_names) == 37
        source = open_source("tfds:oxford_iiit_pet", fields=("mask",))
        assert source.class_names == ("pet", "background", "border")
        assert (source.num_examples("train"), source.num_examples("validation")) == (6, 4)
        record = next(iter(source.records("train", None, tf.constant(0, tf.int64))))
        stored = np.asarray(Image.open(io.BytesIO(record["mask"].numpy())))
        assert set(np.unique(stored)) == {0, 1, 2, 3}
        example = next(source.examples("train").as_numpy_iterator())
        assert example["image"].startswith(b"\xff\xd8\xff")
        expected = np.array([255, 0, 1, 2], np.uint8)[stored]
        np.testing.assert_array_equal(read_mask(example["mask"]), expected)


class Masks(OneSplit):
    """Pictures with masks of three classes, which have names, and a fourth number: none."""

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "regions": tfds.features.LabeledImage(labels=["sky", "house", "tree"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self):
        for number in range(20):
            mask = numbers(number)[..., None]
            yield number, {"picture": np.repeat(mask, 3, 2), "regions": mask}


def test_masks_with_names(tmp_path):
    builder = Masks(data_dir=str(tmp_path))
    builder.download_and_prepare()
    source = TfdsSource("tfds:masks", builder, fields=("mask",))
    assert source.class_names == ("sky", "house", "tree")
    targets, skipped = read(source)
    assert skipped.count == 0
    assert len(targets) == 16
    for y, example in zip(targets, source.examples("train").as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(y["mask"][0], tf.io.decode_png(example["image"])[..., 0])
    # In another order the masks follow their images too.
    for example in source.examples("train", shuffle_seed=1).as_numpy_iterator():
        mask = tf.io.decode_png(example["image"])[..., 0]
        np.testing.assert_array_equal(read_mask(example["mask"]), mask)
    with pytest.raises(ValueError, match="one class label is needed. Received: ClassLabel"):
        TfdsSource("tfds:masks", builder)
    with pytest.raises(ValueError, match=r"boxes and their class labels.*\['picture', 'regions'\]"):
        TfdsSource("tfds:masks", builder, fields=("boxes", "labels"))


class Boxes(OneSplit):
    """Pictures of several sizes with boxes: without area, of no class, difficult, crowds."""

    def _info(self):
        labels = tfds.features.ClassLabel(names=["cat", "dog"])
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": labels,
            "pose": tfds.features.ClassLabel(names=["left", "right"]),
            "is_difficult": np.bool_,
            "is_crowd": np.bool_,
        }
        features = {
            "picture": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "objects": tfds.features.Sequence(objects),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "validation": self._generate_examples()}

    def _generate_examples(self):
        for number in range(4):
            objects = [
                {
                    "bbox": tfds.features.BBox(0.25, 0.1 * side, 0.75, 0.1 * side + 0.5),
                    "label": side % 2,
                    "pose": 0,
                    "is_difficult": side == 1,
                    "is_crowd": side == 2,
                }
                for side in range(number)
            ]
            if number == 1:
                objects.append({**objects[0], "label": -1})
            if number == 3:
                objects[0]["bbox"] = tfds.features.BBox(0.25, 0.5, 0.75, 0.5)
            picture = np.full((20, 40 + 10 * number, 3), 128, np.uint8)
            yield f"{number}", {"picture": picture, "objects": objects}


@pytest.mark.parametrize("fields", [("boxes", "labels"), ("boxes", "labels", "ignored")])
def test_boxes_in_pixels(tmp_path, monkeypatch, fields):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    builder = Boxes(data_dir=str(tmp_path))
    builder.download_and_prepare()
    source = TfdsSource("tfds:boxes", builder, fields=fields)
    assert source.class_names == ("cat", "dog")
    assert source.left_out == "4 boxes left out: 4 without area in the image or of no class"
    for split in ("train", "validation"):
        has_crowd = len(fields) == 3 and split == "validation"
        sizes = []
        for y in read(source, split)[0]:
            height, width = y["shape"][0].numpy()
            sizes.append(width)
            number = (width - 40) // 10
            sides = [0, 1, 2][:number] if number < 3 else ([1, 2] if has_crowd else [1])
            boxes = np.zeros((3, 4), np.float32)
            labels, ignored = np.full(3, -1), np.zeros(3)
            for row, side in enumerate(sides):
                boxes[row] = 0.1 * side * width, 5, (0.1 * side + 0.5) * width, 15
                labels[row], ignored[row] = side % 2, side
            np.testing.assert_allclose(y["boxes"][0], boxes, rtol=1e-5)
            np.testing.assert_array_equal(y["labels"][0], labels)
            if len(fields) == 3:
                np.testing.assert_array_equal(y["ignored"][0], ignored)
        assert sorted(sizes) == [40, 50, 60, 70]
    # The most boxes are counted once.
    monkeypatch.setattr(TfdsSource, "_survey", lambda *_: 1 / 0)
    assert TfdsSource("tfds:boxes", builder, fields=fields).left_out == source.left_out


def test_masks_of_sets_that_do_not_fit_say_why(tmp_path):
    class Unfit(Masks):
        """Pictures with a mask that is too small, one of a fourth class, and one that fits."""

        def _generate_examples(self):
            for number, mask in enumerate((numbers(0)[:-1], numbers(0) + 3, numbers(0))):
                picture = np.zeros((*numbers(0).shape, 3), np.uint8)
                yield number, {"picture": picture, "regions": mask[..., None]}

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

    builder = Unfit(data_dir=str(tmp_path))
    builder.download_and_prepare()
    source = TfdsSource("tfds:unfit", builder, fields=("mask",))
    for found, skipped in (read(source), train_on(source)):
        assert len(found) == 1 and skipped.count == 2
        assert "(its mask has 36 x 23 pixels, and the image has 36 x 24)" in str(skipped)
        assert "(its mask holds 3, and classes are from 0 to 2)" in str(skipped)


def stand_in(builder_class, example):
    """A set with another one's features and configurations, and one example in each split."""

    class StandIn(builder_class, skip_registration=True):
        """Nothing is downloaded."""

        def _split_generators(self, dl_manager):
            return {"train": [(0, example)], "validation": [(1, example)]}

    return StandIn


PICTURE = np.full((40, 80, 3), 128, np.uint8)
BOX = {"bbox": tfds.features.BBox(0.25, 0.5, 0.5, 1.0)}


def coco_stand_in(data_dir):
    """A plain box, and one around a crowd."""
    plain = {**BOX, "id": 0, "area": 9}
    objects = [
        {**plain, "label": 7, "is_crowd": False},
        {**plain, "label": 8, "is_crowd": True},
    ]
    example = {"image": PICTURE, "image/filename": "1", "image/id": 1, "objects": objects}
    return stand_in(tfds.object_detection.Coco, example)(config="2017", data_dir=data_dir)


def voc_stand_in(data_dir):
    """A plain box and a difficult one."""
    plain = {**BOX, "pose": "left", "is_truncated": True}
    objects = [
        {**plain, "label": 7, "is_difficult": False},
        {**plain, "label": 8, "is_difficult": True},
    ]
    lists = {"labels": [7, 8], "labels_no_difficult": [7]}
    example = {"image": PICTURE, "image/filename": "1", "objects": objects, **lists}
    return stand_in(tfds.object_detection.Voc, example)(config="2007", data_dir=data_dir)


@pytest.mark.parametrize(
    ("builder", "num_classes", "trained_on", "ignored"),
    [(coco_stand_in, 80, [7, -1], [0, 2]), (voc_stand_in, 20, [7, 8], [0, 1])],
)
def test_sets_with_boxes_have_their_decoders(
    tmp_path, monkeypatch, builder, num_classes, trained_on, ignored
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    builder = builder(str(tmp_path))
    builder.download_and_prepare()
    source = TfdsSource("tfds:it", builder, fields=("boxes", "labels", "ignored"))
    assert len(source.class_names) == num_classes
    for split, labels in (("train", trained_on), ("validation", [7, 8])):
        (y,), skipped = read(source, split)
        assert skipped.count == 0
        np.testing.assert_array_equal(y["labels"], [labels])
        np.testing.assert_allclose(y["boxes"][0, 0], [40, 10, 80, 20])
        if split == "validation":
            np.testing.assert_array_equal(y["ignored"], [ignored])


def test_configurations_may_be_numbers(monkeypatch):
    asked = []

    def builder(name):
        asked.append(name)
        raise ValueError("enough")

    monkeypatch.setattr(tfds, "builder", builder)
    for name in ("coco:2017", "ade:one", "mnist", "mnist:3.0.1", "mnist:3.*.*", "coco/2017:1.1.0"):
        with pytest.raises(ValueError, match=r"set is needed. Received: .* \(enough\)"):
            open_tfds(name)
    assert asked == [
        "coco/2017",
        "ade/one",
        "mnist",
        "mnist:3.0.1",
        "mnist:3.*.*",
        "coco/2017:1.1.0",
    ]


def test_masks_and_boxes_that_nobody_can_name(tmp_path):
    class Unnamed(Masks):
        """Masks whose numbers have no names."""

        def _info(self):
            features = {
                "picture": tfds.features.Image(shape=(None, None, 3)),
                "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

    with pytest.raises(
        ValueError, match="LabeledImage with their names, or one of oxford_iiit_pet"
    ):
        TfdsSource("tfds:unnamed", Unnamed(data_dir=str(tmp_path)), fields=("mask",))

    class NoBoxes(Boxes):
        """Pictures without any object."""

        def _generate_examples(self):
            for number in range(4):
                yield number, {"picture": np.zeros((8, 8, 3), np.uint8), "objects": []}

    builder = NoBoxes(data_dir=str(tmp_path))
    builder.download_and_prepare()
    with pytest.raises(ValueError, match="images with boxes are needed. Received: no box"):
        TfdsSource("tfds:no_boxes", builder, fields=("boxes", "labels"))
