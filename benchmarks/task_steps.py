"""A training step of each task beside a classifier's on the same pixels.

  python -m benchmarks.task_steps
  python -m benchmarks.task_steps --tasks classification detection --size 320 --batch-size 8

Each task trains from random weights as `train` does, matching of anchors and metrics included, and
takes turns of several steps with the others. The first two steps of a turn are not counted. Exits
with status 1 where a detector's step takes over 1.35 of the first task's time.
"""

import argparse
import os
import platform
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from mobilevit_keras.models import VARIANTS
from mobilevit_keras.training.run import compile_for
from train.assembly import build_model
from train.config import CONFIGS

# Classes of ImageNet, PASCAL VOC's masks and COCO's boxes, as the paper's.
NUM_CLASSES = {"classification": 1000, "segmentation": 21, "detection": 80}
_BOXES = 8
_LIMIT = {"detection": 1.35}
_UNCOUNTED = 2


class Times(keras.callbacks.Callback):
    """Times each of `fit`'s steps."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch, logs=None) -> None:
        self.began_at = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        # Reading the loss waits for the step.
        float(logs["loss"])
        self.seconds.append(time.perf_counter() - self.began_at)


def targets_of(task: str, count: int, size: int, rng: np.random.Generator):
    """What a batch of random images is told to hold."""
    classes = NUM_CLASSES[task]
    if task == "classification":
        return np.eye(classes, dtype="float32")[rng.integers(0, classes, count)]
    if task == "segmentation":
        cells = rng.integers(0, classes, (count, size // 16, size // 16))
        return np.kron(cells, np.ones((1, 16, 16))).astype("uint8")
    corners = np.sort(rng.random((2, count, _BOXES, 2), "float32"), axis=0)
    return {
        "boxes": np.concatenate(list(corners), axis=-1),
        "labels": rng.integers(0, classes, (count, _BOXES)).astype("int32"),
    }


def trained(name: str, options: argparse.Namespace):
    """A model that is ready to be trained, and a dataset of one turn."""
    config = CONFIGS[name](
        variant=options.variant, base_size=options.size, batch_size=options.batch_size
    )
    keras.utils.set_random_seed(0)
    model = build_model(config, [str(i) for i in range(NUM_CLASSES[name])])
    task = config.open_task()
    compile_for(task, model, config.recipe(), 10_000)
    rng = np.random.default_rng(0)
    images = rng.random((options.batch_size, options.size, options.size, 3), "float32")
    batch = (images, targets_of(name, options.batch_size, options.size, rng))
    dataset = tf.data.Dataset.from_tensors(batch).cache().repeat(options.steps)
    prepare = task.prepare(model)
    return model, dataset if prepare is None else dataset.map(prepare)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=list(NUM_CLASSES), choices=list(NUM_CLASSES))
    parser.add_argument("--variant", default="mobilevit_xxs", choices=list(VARIANTS))
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5, help="after one of warm-up (default: 5)")
    parser.add_argument("--steps", type=int, default=8, help="of a turn, over 2 (default: 8)")
    options = parser.parse_args(arguments)
    trainings = {name: trained(name, options) for name in options.tasks}
    seconds: dict[str, list[list[float]]] = {name: [] for name in trainings}
    for _ in range(1 + options.turns):
        for name, (model, dataset) in trainings.items():
            times = Times()
            model.fit(dataset, shuffle=False, verbose=0, callbacks=[times])
            seconds[name].append(times.seconds)
    print(
        f"{options.variant}, {options.size} px, batch {options.batch_size}, float32; "
        f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    )
    medians = {
        name: float(np.median(np.array(turns)[1:, _UNCOUNTED:])) for name, turns in seconds.items()
    }
    first = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:<15} {median * 1e3:8.1f} ms a step {median / first:6.3f}")
    return int(any(medians.get(name, 0) > limit * first for name, limit in _LIMIT.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
