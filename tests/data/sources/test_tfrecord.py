import os

import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data.evaluation import EvaluationDataset
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.sources import open_source, tfrecord
from mobilevit_keras.data.sources.listed_objects import ListedObjects
from mobilevit_keras.data.sources.objects import Objects
from mobilevit_keras.data.sources.tfrecord import TFRecordShards, count_records, write_shards
from tests.data.images import NumberedImages, encode, smooth_image
from tests.data.sources.files import numbers, read, train_on, write_image, write_mask
from tests.masks import png

ARGUMENTS = {"sizes": (32, 48), "base_size": 32, "batch_size": 16}


@pytest.fixture(autouse=True)
def _counts_are_remembered_here(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def shards(tmp_path):
    write_shards(NumberedImages(100), tmp_path / "shards", 4)
    return tmp_path / "shards"


def labels(dataset):
    return [int(example["label"]) for example in dataset.as_numpy_iterator()]


def test_written_shards_are_read_back(shards):
    assert [file.name for file in sorted(shards.glob("[!.]*"))][:3] == [
        "labels.txt",
        "train-00000-of-00004",
        "train-00001-of-00004",
    ]
    source = open_source(f"tfrecord:{shards}")
    numbered = NumberedImages(100)
    assert source.class_names == numbered.class_names
    assert source.num_examples("train") == source.num_examples("validation") == 100
    originals = {int(e["label"]): e for e in numbered.examples("train").as_numpy_iterator()}
    for example in source.examples("train").as_numpy_iterator():
        assert example == originals[int(example["label"])]
    # A standard reader sees the same features.
    raw = next(iter(tf.data.TFRecordDataset(str(shards / "train-00000-of-00004"))))
    features = tf.train.Example.FromString(raw.numpy()).features.feature
    assert sorted(features) == ["image/class/label", "image/encoded", "image/filename"]


def test_order_is_a_function_of_seed_and_epoch(shards):
    source = TFRecordShards(shards / "*", shuffle_buffer=30)
    orders = [labels(source.examples("train", shuffle_seed=(0, epoch))) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(100))
    assert len(set(map(tuple, orders))) == 3
    tf.random.set_seed(12)
    assert labels(source.examples("train", shuffle_seed=(0, 2))) == orders[2]
    assert labels(source.examples("train", shuffle_seed=(0, 2), start=90)) == orders[2][90:]


def test_the_shuffle_buffer_can_be_set(shards):
    """In a buffer of one the records of a block keep their order."""
    stored = labels(open_source(f"tfrecord:{shards}").examples("train"))
    followers = set(zip(stored, stored[1:], strict=False))

    def kept(buffer):
        source = open_source(f"tfrecord:{shards}", shuffle_buffer=buffer)
        order = labels(source.examples("train", shuffle_seed=0))
        assert sorted(order) == list(range(100))
        return sum(pair in followers for pair in zip(order, order[1:], strict=False))

    assert kept(1) > 80 > 20 > kept(100)
    assert kept(None) == kept(4096)
    for buffer, name in ((0, f"tfrecord:{shards}"), (10, "digits"), (10, "folder:photos")):
        with pytest.raises(
            ValueError, match="`shuffle_buffer` must be positive and goes with tfds"
        ):
            open_source(name, shuffle_buffer=buffer)


def test_pipeline_reads_shards_exactly_once(shards):
    pipeline = MultiScaleDataset(open_source(f"tfrecord:{shards}"), **ARGUMENTS)
    seen = np.concatenate([labels.numpy() for _, labels in pipeline.epoch(0)])
    np.testing.assert_array_equal(np.sort(seen[:100]), np.arange(100))


def test_count_equals_tensorflows(shards):
    for file in shards.glob("train*"):
        assert count_records(file) == sum(1 for _ in tf.data.TFRecordDataset(str(file)))


def test_records_are_counted_once_until_a_file_changes(shards, monkeypatch):
    counted = []

    def count(path):
        counted.append(path)
        return count_records(path)

    monkeypatch.setattr(tfrecord, "count_records", count)
    source = open_source(f"tfrecord:{shards}")
    files = len(list(shards.glob("*-of-*")))
    assert len(counted) == files
    for _ in range(2):
        again = open_source(f"tfrecord:{shards}")
        assert [again.num_examples(s) for s in ("train", "validation")] == [100, 100]
    assert len(counted) == files
    assert source.num_examples("train") == 100
    with tf.io.TFRecordWriter(str(shards / "train-00000-of-00004")) as writer:
        writer.write(b"one record alone")
    assert open_source(f"tfrecord:{shards}").num_examples("train") == 76
    assert counted[files:] == [str(shards / "train-00000-of-00004")]


def test_a_file_of_the_same_size_and_time_is_counted_anew(shards):
    """Records of one size, and times that whoever writes an archive sets."""
    file = shards / "train-00000-of-00004"
    open_source(f"tfrecord:{shards}")
    size, time = file.stat().st_size, file.stat().st_mtime_ns
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(bytes(size - 16))
    os.utime(file, ns=(time, time))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (size, time)
    assert open_source(f"tfrecord:{shards}").num_examples("train") == 76


@pytest.mark.parametrize("kept", [20, 30])
@pytest.mark.parametrize("play", ["train", "validation"])
def test_other_records_than_were_counted_are_an_error(shards, monkeypatch, play, kept):
    """And counted anew, whatever the memory of them says."""
    monkeypatch.setattr(tfrecord, "state_of", lambda path: [0, 0, 0])
    open_source(f"tfrecord:{shards}")
    file = next(shards.glob(f"{play}-00001*"))
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
    with tf.io.TFRecordWriter(str(file)) as writer:
        for index in range(kept):
            writer.write(records[index % 25])
    source = open_source(f"tfrecord:{shards}")
    assert source.num_examples(play) == 100
    datasets = {
        "train": MultiScaleDataset(source, **ARGUMENTS),
        "validation": EvaluationDataset(source, crop_size=32),
    }
    with pytest.raises(ValueError, match=f"{shards}, which holds more or fewer"):
        with datasets[play].clear_errors():
            list(datasets[play])
    assert open_source(f"tfrecord:{shards}").num_examples(play) == 75 + kept


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"train-00000-of-00004": 3}'])
def test_damaged_memory_of_counts_is_replaced(shards, tmp_path, content):
    open_source(f"tfrecord:{shards}")
    (memory,) = (tmp_path / "keras").rglob("*.json")
    memory.write_text(content)
    assert open_source(f"tfrecord:{shards}").num_examples("train") == 100


def test_a_memory_that_cannot_be_written_is_none(shards, tmp_path):
    (tmp_path / "keras").write_text("in the way")
    assert open_source(f"tfrecord:{shards}").num_examples("train") == 100


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_truncated_shard_is_named_when_opened(shards, cut):
    file = shards / "train-00002-of-00004"
    contents = file.read_bytes()
    file.write_bytes(contents[:-cut])
    with pytest.raises(ValueError, match=f"must be whole.*{file}, cut short in record 24 at byte"):
        open_source(f"tfrecord:{shards}")


def test_text_file_is_named_when_opened(shards):
    (shards / "train-notes.txt").write_text("These are the shards of the numbered images.")
    with pytest.raises(ValueError, match="train-notes.txt, cut short in record 0 at byte 0"):
        open_source(f"tfrecord:{shards}")


def test_damaged_record_is_named_when_read(shards):
    pipeline = MultiScaleDataset(open_source(f"tfrecord:{shards}"), **ARGUMENTS)
    file = shards / "train-00001-of-00004"
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 0xFF
    file.write_bytes(contents)
    with pytest.raises(ValueError, match=f"must be whole. Received: {file}, which is damaged"):
        with pipeline.clear_errors():
            list(pipeline.epoch(0))


def test_shard_cut_after_opening_is_named(shards):
    pipeline = MultiScaleDataset(open_source(f"tfrecord:{shards}"), **ARGUMENTS)
    file = shards / "train-00003-of-00004"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{file}, which is damaged"):
        with pipeline.clear_errors():
            list(pipeline.epoch(0))


def test_labels_outside_of_the_classes_are_refused(shards):
    (shards / "labels.txt").write_text("one\ntwo\n")
    pipeline = MultiScaleDataset(open_source(f"tfrecord:{shards}"), **ARGUMENTS)
    with pytest.raises(
        ValueError, match="label` from 0 to 1. Received: tfrecord:.*label` is wrong"
    ):
        with pipeline.clear_errors():
            list(pipeline.epoch(0))


def test_records_without_an_image_are_refused(shards):
    with tf.io.TFRecordWriter(str(shards / "train-00004-of-00004")) as writer:
        writer.write(b"")
    pipeline = MultiScaleDataset(open_source(f"tfrecord:{shards}"), **ARGUMENTS)
    with pytest.raises(ValueError, match="needs `image/encoded`.*is wrong"):
        with pipeline.clear_errors():
            list(pipeline.epoch(0))


def test_errors_of_others_pass_through(shards):
    pipeline = MultiScaleDataset(open_source(f"tfrecord:{shards}"), **ARGUMENTS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the model"):
        with pipeline.clear_errors():
            tf.debugging.assert_equal(1, 2, "the model")


def test_missing_parts(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match="begin with 'train'.*absent"):
        open_source(f"tfrecord:{tmp_path}/absent")
    for file in shards.glob("validation*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="begin with 'validation'"):
        open_source(f"tfrecord:{shards}")
    (shards / "labels.txt").unlink()
    (shards / "validation-0").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="need a labels.txt beside them"):
        open_source(f"tfrecord:{shards}")
    with pytest.raises(ValueError, match="`num_shards` must be positive. Received: 0"):
        write_shards(NumberedImages(3), tmp_path / "none", 0)


@pytest.fixture
def mask_shards(tmp_path):
    for number in range(12):
        write_image(tmp_path / "folder" / "images" / f"{number}.jpg", number)
        path = tmp_path / "folder" / "masks" / f"{number}.png"
        write_mask(path, numbers(number), palette=number % 2 == 1)
    (tmp_path / "folder" / "classes.txt").write_text("sky\nhouse\ntree\n")
    write_shards(open_source(f"masks:{tmp_path}/folder"), tmp_path / "shards", 2)
    return tmp_path / "shards"


def test_masks_are_read_back(mask_shards, tmp_path):
    source = open_source(f"tfrecord:{mask_shards}", fields=("mask",))
    original = open_source(f"masks:{tmp_path}/folder")
    assert source.fields == ("mask",)
    assert source.class_names == original.class_names
    raw = next(iter(tf.data.TFRecordDataset(str(mask_shards / "train-00000-of-00002"))))
    features = tf.train.Example.FromString(raw.numpy()).features.feature
    keys = ["image/encoded", "image/filename", "image/segmentation/class/encoded"]
    assert sorted(features) == keys
    for split in ("train", "validation"):
        stored = {e["name"]: e for e in original.examples(split).as_numpy_iterator()}
        for example in source.examples(split).as_numpy_iterator():
            assert example == stored.pop(example["name"])
        assert not stored
        targets, skipped = read(source, split)
        assert skipped.count == 0
        assert len(targets) == source.num_examples(split)


def test_records_without_a_mask_are_refused(mask_shards, shards):
    source = open_source(f"tfrecord:{shards}", fields=("mask",))
    message = "needs `image/encoded`, and a mask's `image/segmentation/class/encoded`. Received: .*"
    with pytest.raises(ValueError, match=f"{message}class/encoded` is wrong"):
        train_on(source)


def test_masks_in_shards_that_do_not_fit_say_why(tmp_path):
    """As those of files do, though only the record holds them."""
    masks = {
        "small.jpg": (
            png(numbers(0)[:-1]),
            "its mask has 36 x 23 pixels, and the image has 36 x 24",
        ),
        "other.jpg": (png(numbers(0) + 3), "its mask holds 3, and classes are from 0 to 2"),
        "rgb.jpg": (encode(smooth_image(0, 24, 36), "PNG"), "its mask is RGB, colours in place of"),
        "no.jpg": (b"no PNG file\0\0", "its mask is no PNG file that can be read"),
        "": (png(numbers(1)), ""),
    }
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "labels.txt").write_text("sky\nhouse\ntree\n")
    for split in ("train", "validation"):
        with tf.io.TFRecordWriter(str(folder / f"{split}-0")) as writer:
            for name, (mask, _) in masks.items():
                values = {
                    "encoded": encode(smooth_image(0, 24, 36), "JPEG"),
                    "filename": name.encode(),
                }
                values["segmentation/class/encoded"] = mask
                example = tf.train.Example()
                for key, value in values.items():
                    example.features.feature[f"image/{key}"].bytes_list.value.append(value)
                writer.write(example.SerializeToString())
    source = open_source(f"tfrecord:{folder}", fields=("mask",))
    targets, evaluated = read(source)
    assert len(targets) == 1
    _, trained = train_on(source)
    for skipped in (evaluated, trained):
        assert skipped.count == 4
        for name, (_, why) in masks.items():
            assert not name or f"{name} ({why}" in str(skipped)
    with pytest.raises(ValueError, match=r"must be readable. Received: .*jpg \(its mask"):
        train_on(source, strict=True)


def test_masks_that_cannot_be_written_leave_nothing(mask_shards, tmp_path):
    (tmp_path / "folder" / "masks" / "3.png").unlink()
    with pytest.raises(ValueError, match="must be whole. Received: masks:.*3.png"):
        write_shards(open_source(f"masks:{tmp_path}/folder"), tmp_path / "none", 2)
    assert not (tmp_path / "none").exists()


class Boxed(ListedObjects):
    """Images of several sizes, as many boxes in each as its number says, and of every kind."""

    def __init__(self, fields=("boxes", "labels", "ignored"), count=5):
        images = [encode(smooth_image(n, 20 + n, 40), "JPEG") for n in range(count)]
        columns = {
            "name": [str(number) for number in range(count)],
            "image": images,
            "size": np.array([(20 + number, 40) for number in range(count)], np.int32),
        }
        objects = [
            Objects.of([((1.5, 2, 30 + k, 15.25), k % 3, k % 3) for k in range(number)])
            for number in range(count)
        ]
        splits = ("train", "validation")
        super().__init__(
            "abc",
            {split: columns for split in splits},
            {split: objects for split in splits},
            fields,
        )

    def __str__(self):
        return "boxed"


@pytest.mark.parametrize("fields", [("boxes", "labels"), ("boxes", "labels", "ignored")])
def test_boxes_are_read_back(tmp_path, fields):
    write_shards(Boxed(), tmp_path / "shards", 1)
    source = open_source(f"tfrecord:{tmp_path}/shards", fields=fields)
    original = Boxed(fields)
    assert source.class_names == original.class_names
    assert source.left_out == ""
    for split in ("train", "validation"):
        stored = {e["name"]: e for e in original.examples(split).as_numpy_iterator()}
        for example in source.examples(split).as_numpy_iterator():
            expected = stored.pop(example["name"])
            # Of the train split's shards the crowd is gone, so that fewer rows are needed there.
            rows = slice(len(expected["labels"]))
            np.testing.assert_allclose(example["boxes"][rows], expected["boxes"], rtol=1e-6)
            for field in fields[1:]:
                np.testing.assert_array_equal(example[field][rows], expected[field])
            assert example["image"] == expected["image"]
        assert not stored
        _, skipped = read(source, split)
        assert skipped.count == 0
    raw = next(iter(tf.data.TFRecordDataset(str(tmp_path / "shards" / "train-00000-of-00001"))))
    features = tf.train.Example.FromString(raw.numpy()).features.feature
    assert sorted(features) == [
        *(f"image/{key}" for key in ("encoded", "filename")),
        *(f"image/object/bbox/{side}" for side in ("xmax", "xmin", "ymax", "ymin")),
        *(f"image/object/{key}" for key in ("class/label", "difficult", "is_crowd")),
    ]


def write_objects(folder, *images):
    """Shards as TensorFlow's object detection writes them; of each image some keys."""
    contents = encode(smooth_image(0, 20, 40), "PNG")
    folder.mkdir()
    (folder / "labels.txt").write_text("cat\ndog\n")
    for split in ("train", "validation"):
        with tf.io.TFRecordWriter(str(folder / f"{split}-0")) as writer:
            for image in images:
                example = tf.train.Example()
                feature = example.features.feature
                feature["image/encoded"].bytes_list.value.append(contents)
                for key, values in image.items():
                    if values and isinstance(values[0], bytes):
                        feature[f"image/object/{key}"].bytes_list.value.extend(values)
                    elif "bbox" in key:
                        feature[f"image/object/{key}"].float_list.value.extend(values)
                    else:
                        feature[f"image/object/{key}"].int64_list.value.extend(values)
                writer.write(example.SerializeToString())
    return f"tfrecord:{folder}"


def sides(*boxes):
    names = ("xmin", "ymin", "xmax", "ymax")
    return {f"bbox/{name}": [box[k] for box in boxes] for k, name in enumerate(names)}


def test_boxes_of_others_are_counted_from_one_and_clipped(tmp_path):
    nan = float("nan")
    boxes = [
        (0.5, 0.25, 1.5, 0.75),
        (0.5, 0.5, 0.5, 0.75),
        (0.5, nan, 0.75, 0.75),
        (1.1, 0.5, 1.2, 0.75),
        (-0.5, -0.5, 0.25, 0.5),
        (0.1, 0.1, float("inf"), 0.5),
        (0.75, 0.1, 0.5, 0.5),
    ]
    name = write_objects(
        tmp_path / "shards",
        {**sides(*boxes), "class/label": [2, 1, 1, 1, 1, 1, 1]},
        {},
        {**sides(boxes[0]), "class/label": [1], "difficult": [1]},
    )
    source = open_source(name, fields=("boxes", "labels"))
    assert source.left_out == "10 boxes left out: 10 without area in the image"
    targets, _ = read(source)
    assert [y["boxes"].shape for y in targets] == [(1, 7, 4)] * 3
    np.testing.assert_allclose(
        targets[0]["boxes"][0, :3], [[20, 5, 40, 15], [0, 0, 10, 10], [0] * 4]
    )
    labels = [y["labels"][0].numpy().tolist() for y in targets]
    assert labels == [[1, 0] + [-1] * 5, [-1] * 7, [0] + [-1] * 6]
    # What was found is remembered.
    assert open_source(name, fields=("boxes", "labels")).left_out == source.left_out


def test_boxes_are_looked_at_once_until_a_file_changes(tmp_path, monkeypatch):
    name = write_objects(tmp_path / "shards", {**sides((0.0, 0.0, 1.0, 1.0)), "class/label": [1]})
    looked = []
    survey = tfrecord._boxes_in
    monkeypatch.setattr(tfrecord, "_boxes_in", lambda path: looked.append(path) or survey(path))
    for _ in range(2):
        assert open_source(name, fields=("boxes", "labels")).num_examples("train") == 1
        assert len(looked) == 2
    file = tmp_path / "shards" / "train-0"
    file.write_bytes(file.read_bytes() * 2)
    assert open_source(name, fields=("boxes", "labels")).num_examples("train") == 2
    assert looked[2:] == [str(file)]


@pytest.mark.parametrize(
    ("image", "key"),
    [
        ({**sides((0.0, 0.0, 1.0, 1.0)), "class/label": [3]}, "image/object/class/label"),
        ({**sides((0.0, 0.0, 1.0, 1.0)), "class/label": [0]}, "image/object/class/label"),
        ({**sides((0.0, 0.0, 1.0, 1.0))}, "image/object/class/label"),
        (
            {**sides((0.0, 0.0, 1.0, 1.0)), "class/label": [1], "bbox/ymax": [1.0, 1.0]},
            "image/object/bbox/xmin",
        ),
        (
            {**sides((0.0, 0.0, 1.0, 1.0)), "class/label": [1], "bbox/ymin": [b"0.0"]},
            "image/object/bbox/ymin",
        ),
        ({**sides((0.0, 0.0, 1.0, 1.0)), "class/label": [b"cat"]}, "image/object/class/label"),
    ],
)
def test_boxes_that_make_no_sense_are_refused(tmp_path, image, key):
    name = write_objects(tmp_path / "shards", image)
    message = f"a `image/object/class/label` from 1 to 2 for each. Received: .*`{key}` is wrong"
    with pytest.raises(ValueError, match=message):
        train_on(open_source(name, fields=("boxes", "labels")))


def test_shards_without_any_box_are_refused(tmp_path, shards):
    name = write_objects(tmp_path / "none", {}, {})
    for each in (name, f"tfrecord:{shards}"):
        with pytest.raises(ValueError, match="images with boxes are needed. Received: no box"):
            open_source(each, fields=("boxes", "labels"))


def test_damaged_shards_of_boxes_are_named_when_opened(tmp_path):
    name = write_objects(tmp_path / "shards", {**sides((0.0, 0.0, 1.0, 1.0)), "class/label": [1]})
    file = tmp_path / "shards" / "train-0"
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 0xFF
    file.write_bytes(contents)
    with pytest.raises(ValueError, match=f"must be whole. Received: {file}, which is damaged"):
        open_source(name, fields=("boxes", "labels"))
