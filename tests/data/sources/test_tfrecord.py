import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.sources import open_source, tfrecord
from mobilevit_keras.data.sources.tfrecord import TFRecordShards, count_records, write_shards
from tests.data.images import NumberedImages

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
