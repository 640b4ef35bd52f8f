"""Memory of a long training: a tiny model through the real pipeline, `fit` and its callbacks.

  python -m benchmarks.long_run --steps 20000

Prints the resident memory every thousandth step, or ten times where there are fewer. Exits with
status 1 where the end holds more than `--limit` MiB more than the moment after the warm-up (the
first 1,000 steps, or the first tenth of a shorter run).
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from mobilevit_keras import MobileViTBackbone, MobileViTImageClassifier
from mobilevit_keras.data import MultiScaleDataset, open_source
from mobilevit_keras.tasks import Classification
from mobilevit_keras.training import Recipe
from mobilevit_keras.training.average import ExponentialMovingAverage
from mobilevit_keras.training.callbacks import ImagesPerSecond
from mobilevit_keras.training.checkpoints import Checkpoints
from mobilevit_keras.training.run import compile_for

_CLASSES = ("blue", "green", "red")


class _Memory(keras.callbacks.Callback):
    """Notes the resident memory after each step, and ends training after `steps`."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.print_every = min(1000, max(1, steps // 10))
        self.mebibytes: list[float] = []
        self.began_at = time.monotonic()

    def on_train_batch_end(self, batch, logs=None) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.mebibytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        count = len(self.mebibytes)
        if count % self.print_every == 0:
            seconds = time.monotonic() - self.began_at
            print(f"{count:>7} {self.mebibytes[-1]:>9.1f} {seconds:>9.0f}", flush=True)
        if count == self.steps:
            self.model.stop_training = True


def _write_photos(folder: Path, per_class: int) -> None:
    rng = np.random.default_rng(0)
    for index, name in enumerate(_CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 100, (48, 56, 3), "uint8")
            pixels[..., 2 - index] += 100
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")


def _tiny_model() -> MobileViTImageClassifier:
    backbone = MobileViTBackbone((8, 8, 16, 16, 16), 2, (16, 16, 16), (1, 1, 1), stem_filters=8)
    return MobileViTImageClassifier(backbone, len(_CLASSES), class_names=_CLASSES)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--limit", type=float, default=16.0, help="MiB (default: 16)")
    options = parser.parse_args(arguments)
    memory = _Memory(options.steps)
    with tempfile.TemporaryDirectory() as name:
        _write_photos(Path(name) / "photos", 40)
        source = open_source(f"folder:{name}/photos")
        train = MultiScaleDataset(source, sizes=(32, 48), base_size=32, batch_size=8)
        images = source.num_examples("train")
        shortest = images // max(batch for _, batch in train.schedule.scales)
        epochs = math.ceil(options.steps / shortest)
        model = _tiny_model()
        compile_for(Classification(0.1), model, Recipe(), options.steps)
        average = ExponentialMovingAverage(0.999)
        checkpoints = Checkpoints(Path(name) / "run", train, average, every_steps=500)
        print(f"{'step':>7} {'MiB':>9} {'seconds':>9}")
        callbacks = [average, ImagesPerSecond(checkpoints, train.steps), memory, checkpoints]
        with train.clear_errors():
            model.fit(train, epochs=epochs, verbose=0, callbacks=callbacks)
    warmup = min(1000, options.steps // 10)
    window = max(1, options.steps // 20)
    before = statistics.median(memory.mebibytes[warmup : warmup + window])
    after = statistics.median(memory.mebibytes[-window:])
    print(
        f"{options.steps} steps: {before:.1f} MiB after {warmup}, {after:.1f} MiB at the end, "
        f"{after - before:+.1f} MiB"
    )
    return int(after - before > options.limit)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
