"""Rate of the training input pipeline, beside bare JPEG decoding and a loop of Pillow.

    python benchmarks/input_pipeline.py [--photos FOLDER] [--repeats N] [--rounds N]

The three take turns in one process group on the same files and the same number of cores:
- `decode_jpeg`: reads and decodes each file whole, nothing else, in parallel;
- `pillow`: as many processes as there are cores read, decode, crop, resize and flip as the paper's
  recipe says (bilinear, area 0.08-1), and batch, at the step's size;
- `pipeline`: `MultiScaleDataset` with the paper's five sizes, from an epoch's start to its end.
"""

import argparse
import math
import multiprocessing
import os
import platform
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"


def repeated_folder(photos: Path, folder: Path, repeats: int) -> Path:
    """Makes a folder of two classes in which every photo appears `repeats` times, as copies."""
    files = sorted(file for file in photos.iterdir() if file.suffix.lower() in (".jpeg", ".jpg"))
    if not files:
        raise FileNotFoundError(f"A folder of JPEG files is needed. Received: {photos}.")
    for index, file in enumerate(files * repeats):
        copy = folder / ("ab"[index % 2]) / f"{index}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        # Of links to one file the source would take one.
        shutil.copyfile(file, copy)
    return folder


def pillow_image(path: str, size: int) -> np.ndarray:
    """RandomResizedCrop and flip with Pillow."""
    from PIL import Image

    with Image.open(path) as image:
        image = image.convert("RGB")
    width, height = image.size
    for _ in range(10):
        area = random.uniform(0.08, 1.0) * width * height
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w <= width and h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            break
    else:
        w = h = min(width, height)
        left, top = (width - w) // 2, (height - h) // 2
    image = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + w, top + h))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def pillow_batch(task: tuple[list[str], int]) -> int:
    """Makes one batch in a worker; only its length goes back, which spares it the copy."""
    paths, size = task
    images = np.stack([pillow_image(path, size) for path in paths])
    return len(images.astype(np.float32) / 255)


def batches(files: list[str], schedule, epoch: int) -> Iterator[tuple[list[str], int]]:
    """The schedule's batches of file names."""
    steps = schedule.epoch(epoch, len(files))
    for start, count, size in zip(steps.starts, steps.batch_sizes, steps.heights, strict=True):
        yield [files[index % len(files)] for index in range(start, start + count)], int(size)


def cpu_seconds() -> float:
    """Processor time of this process and of its ended workers."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def timed(play: Callable[[int], int], epoch: int) -> tuple[float, float]:
    """Returns images a second and images a processor second of one epoch."""
    start, start_cpu = time.perf_counter(), cpu_seconds()
    images = play(epoch)
    return images / (time.perf_counter() - start), images / (cpu_seconds() - start_cpu)


def measure(photos: Path, repeats: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Runs the three in turns; the first round of each warms it up and is not counted."""
    import tensorflow as tf

    from mobilevit_keras.data import MultiScaleDataset
    from mobilevit_keras.data.sources.image_folder import ImageFolder
    from mobilevit_keras.data.threads import num_cores, untuned

    with tempfile.TemporaryDirectory() as scratch:
        source = ImageFolder(
            repeated_folder(photos, Path(scratch), repeats), validation_fraction=0.02
        )
        files = [record["name"].decode() for record in source.examples("train").as_numpy_iterator()]
        pipeline = MultiScaleDataset(source, batch_size=32)
        played = pipeline.dataset()
        bare = (
            tf.data.Dataset.from_tensor_slices(files)
            .map(
                lambda file: tf.shape(tf.io.decode_jpeg(tf.io.read_file(file), channels=3)),
                num_parallel_calls=num_cores(),
            )
            .with_options(untuned())
        )

        def play_pipeline(epoch: int) -> int:
            pipeline.next_epoch = epoch
            return sum(int(labels.shape[0]) for _, labels in played)

        def play_bare(epoch: int) -> int:
            return sum(1 for _ in bare)

        def play_pillow(epoch: int) -> int:
            with multiprocessing.get_context("spawn").Pool(num_cores()) as pool:
                list(pool.imap(pillow_batch, [(files[:2], 32)] * num_cores()))  # The start is free.
                start, start_cpu = time.perf_counter(), cpu_seconds()
                images = sum(
                    pool.imap_unordered(pillow_batch, batches(files, pipeline.schedule, epoch))
                )
                seconds = time.perf_counter() - start
                pool.close()
                pool.join()
            results["pillow"].append((images / seconds, images / (cpu_seconds() - start_cpu)))
            return images

        results: dict[str, list[tuple[float, float]]] = {
            "decode_jpeg": [],
            "pillow": [],
            "pipeline": [],
        }
        for epoch in range(rounds + 1):
            results["decode_jpeg"].append(timed(play_bare, epoch))
            results["pipeline"].append(timed(play_pipeline, epoch))
            play_pillow(epoch)
    return {name: values[1:] for name, values in results.items()}


def main() -> None:
    """Measures and prints the table."""
    from mobilevit_keras.data.threads import num_cores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of JPEG files")
    parser.add_argument("--repeats", type=int, default=40, help="times each photo appears")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds of each")
    arguments = parser.parse_args()
    results = measure(arguments.photos, arguments.repeats, arguments.rounds)
    medians = {
        name: tuple(statistics.median(column) for column in zip(*values, strict=True))
        for name, values in results.items()
    }
    machine = f"{processor()} ({platform.machine()}), {num_cores()} cores"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    print(f"{'':>12} {'images/s':>9} {'images/CPU s':>13} {'pipeline is':>12}")
    for name, (rate, cpu_rate) in medians.items():
        print(f"{name:>12} {rate:>9.0f} {cpu_rate:>13.0f} {medians['pipeline'][0] / rate:>11.2f}x")


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
