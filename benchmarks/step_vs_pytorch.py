"""A training step of Keras `fit` beside Hugging Face's implementation in PyTorch.

  python -m benchmarks.step_vs_pytorch --torch-python path/to/venv/bin/python
  python -m benchmarks.step_vs_pytorch --torch-python path/to/venv/bin/python \\
      --task segmentation --size 256 --batch-size 8

The other Python needs torch and transformers. Both train from random weights with AdamW (of
classifiers with label smoothing) on the same shapes, two threads each, and take turns of several
steps, so that a machine whose speed drifts slows both alike. The first two steps of a turn are not
counted: after a pause PyTorch's took eight times as long. Exits with status 1 where the ratio of
the medians is above 1.
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.task_steps import NUM_CLASSES, Times, targets_of
from mobilevit_keras.models import VARIANTS
from mobilevit_keras.training.run import compile_for
from train.assembly import build_model
from train.config import CONFIGS

# Those that transformers has.
_TASKS = ("classification", "segmentation")
_UNCOUNTED = 2


class _Turns(Times):
    """Lets the other process take as many steps after each turn."""

    def __init__(self, other: subprocess.Popen, length: int) -> None:
        super().__init__()
        self.other = other
        self.length = length
        self.torch_seconds: list[float] = []

    def on_train_batch_end(self, batch, logs=None) -> None:
        super().on_train_batch_end(batch, logs)
        if len(self.seconds) % self.length:
            return
        self.other.stdin.write("step\n" * self.length)
        self.other.stdin.flush()
        lines = (self.other.stdout.readline() for _ in range(self.length))
        self.torch_seconds += [float(line) for line in lines]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", required=True, metavar="FILE")
    parser.add_argument("--task", default="classification", choices=_TASKS)
    parser.add_argument("--variant", default="mobilevit_xxs", choices=list(VARIANTS))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=6, help="after one of warm-up (default: 6)")
    parser.add_argument("--steps", type=int, default=10, help="of a turn, over 2 (default: 10)")
    options = parser.parse_args(arguments)
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    common = ("--task", options.task, "--variant", options.variant, "--size", str(options.size))
    common += ("--batch-size", str(options.batch_size), "--threads", str(options.threads))
    script = Path(__file__).with_name("torch_step.py")
    other = subprocess.Popen(
        [options.torch_python, str(script), *common],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        ready = other.stdout.readline().split()
        if ready[:1] != ["ready"]:
            raise ValueError(f"`--torch-python` needs torch and transformers. Received: {ready}.")
        config = CONFIGS[options.task](
            variant=options.variant, base_size=options.size, batch_size=options.batch_size
        )
        keras.utils.set_random_seed(0)
        model = build_model(config, [str(i) for i in range(NUM_CLASSES[options.task])])
        compile_for(config.open_task(), model, config.recipe(), 1000)
        rng = np.random.default_rng(0)
        batch = (
            rng.random((options.batch_size, options.size, options.size, 3), "float32"),
            targets_of(options.task, options.batch_size, options.size, rng),
        )
        steps = (1 + options.turns) * options.steps
        dataset = tf.data.Dataset.from_tensors(batch).cache().repeat(steps)
        turns = _Turns(other, options.steps)
        model.fit(dataset, shuffle=False, verbose=0, callbacks=[turns])
    finally:
        other.stdin.close()
        other.wait()
    counted = [
        np.reshape(seconds, (-1, options.steps))[1:, _UNCOUNTED:]
        for seconds in (turns.seconds, turns.torch_seconds)
    ]
    ours, theirs = (float(np.median(seconds)) for seconds in counted)
    load = os.getloadavg()[0]
    print(
        f"{options.task}, {options.variant}, {options.size} px, batch {options.batch_size}, "
        f"float32, {options.threads} threads; {os.cpu_count()} cores, {platform.machine()}, "
        f"load {load:.1f}"
    )
    print(f"{' '.join(ready[1:5])}: {theirs * 1e3:.1f} ms a step, {ready[5]} parameters")
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    print(f"keras {keras.__version__}: {ours * 1e3:.1f} ms a step, {trainable} parameters")
    fastest = counted[0].min() / counted[1].min()
    print(f"ratio of medians {ours / theirs:.3f}, of the fastest {fastest:.3f}")
    return int(ours > theirs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
