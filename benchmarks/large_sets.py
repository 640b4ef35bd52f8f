"""Opening, memory and rate of a set with as many images as ImageNet, for one worker and for many.

    python benchmarks/large_sets.py [--records N] [--shards N] [--workers N] [--shuffle-buffer N]

Writes TFRecord shards of small JPEG files (a million take about 1.3 GB) and measures, each in a
process of its own:
- `open`, `open again`: seconds until the source stands; the counts are remembered from the first;
- `records`: shuffled records a second, still encoded, which every worker reads in full;
- `one worker`: images a second of `MultiScaleDataset` where one worker decodes all of each batch;
- `worker of N`: images a second of the whole batches of which this one decodes its part; with N
  workers on machines of their own this is the rate of all together;
- `N devices`: images a second through `distributed`, for N virtual devices of one worker.
Memory is the highest point of the process above what it had before the first batch.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CLASSES, SIDE = 1000, 32
MEASUREMENTS = ("open", "open again", "records", "one worker", "worker of N", "N devices")


def write(folder: Path, records: int, shards: int) -> None:
    """Writes both splits; the validation images are one shard of a thousandth."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = [
        tf.io.encode_jpeg(rng.integers(96, 128, (SIDE, SIDE, 3)).astype(np.uint8)).numpy()
        for _ in range(64)
    ]
    examples = [_example(images[label % 64], label) for label in range(CLASSES)]
    (folder / "labels.txt").write_text("".join(f"class {i}\n" for i in range(CLASSES)))
    parts = [("train", shard, records // shards) for shard in range(shards)]
    for split, shard, count in [*parts, ("validation", 0, max(records // 1000, 1))]:
        with tf.io.TFRecordWriter(str(folder / f"{split}-{shard:05d}")) as writer:
            for number in range(count):
                writer.write(examples[(number * shards + shard) % CLASSES])


def _example(image: bytes, label: int) -> bytes:
    import tensorflow as tf

    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Takes one of `MEASUREMENTS` in this process."""
    import tensorflow as tf

    import mobilevit_keras as mv

    if name == "N devices":
        device = tf.config.list_physical_devices("CPU")[0]
        virtual = [tf.config.LogicalDeviceConfiguration()] * options.workers
        tf.config.set_logical_device_configuration(device, virtual)
    started = time.perf_counter()
    source = mv.data.open_source(f"tfrecord:{folder}", shuffle_buffer=options.shuffle_buffer)
    if name.startswith("open"):
        return {"seconds": time.perf_counter() - started}
    if name == "records":
        dataset = source.records("train", tf.constant([0, 0], tf.int64), tf.constant(0, tf.int64))
        return _rate(((1, None) for _ in dataset.batch(1024)), 1024, options)
    many = name != "one worker"
    train = mv.data.MultiScaleDataset(
        source,
        sizes=(SIDE,),
        base_size=SIDE,
        batch_size=1024,
        num_replicas=options.workers if many else 1,
    )
    if name == "N devices":
        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{index}" for index in range(options.workers)]
        )
        return _rate(iter(train.distributed(strategy).get_tf_dataset()), 1024, options)
    return _rate(train.epoch(0, num_shards=options.workers if many else 1), 1024, options)


def _rate(batches: Iterable, images: int, options: argparse.Namespace) -> dict[str, float]:
    """Images a second after the first batch, for which the shuffle buffer is filled."""
    batches = iter(batches)
    before, started = _peak(), time.perf_counter()
    next(batches)
    first, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
        if time.perf_counter() - first > options.seconds:
            break
    seconds = time.perf_counter() - first
    return {
        "first_batch_seconds": first - started,
        "images_per_second": count * images / seconds,
        "megabytes": _peak() - before,
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--shards", type=int, default=128, metavar="N")
    parser.add_argument("--workers", type=int, default=8, metavar="N")
    parser.add_argument("--shuffle-buffer", type=int, default=None, metavar="N")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        name, folder = options.measure
        print(json.dumps(measure(name, Path(folder), options)))
        return
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        write(Path(folder), options.records, options.shards)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(f"{options.records} records in {options.shards} shards, {size / 1e9:.2f} GB")
        for name in MEASUREMENTS:
            command = [sys.executable, __file__, *arguments, "--measure", name, folder]
            # Where counts are remembered.
            environment = {**os.environ, "KERAS_HOME": home}
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            figures = json.loads(done.stdout.splitlines()[-1])
            text = ", ".join(f"{key} {value:,.1f}" for key, value in figures.items())
            print(f"{name.replace('N', str(options.workers)):<16} {text}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
