"""Accuracy by input size: training at several sizes with variable batches against one size.

Trains both for each seed on the same images for the same number of epochs, and evaluates each model
at every size. Prints the mean over the seeds; nothing is required, the table is the result:

    python -m benchmarks.multi_scale --data folder:photos --output runs/multi_scale
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.small_training import small_config, train_or_go_on
from mobilevit_keras.data import open_source
from mobilevit_keras.evaluation import evaluate, open_predictor

SIZES = (48, 64, 80)
BASE = 64


def measure(options: argparse.Namespace, seed: int, sampler: str) -> list[float]:
    """Trains, and returns top-1 in percent at each of `SIZES`."""
    folder = options.output / f"seed{seed}" / sampler
    started = time.perf_counter()
    sizes = (BASE,) if sampler == "fixed" else SIZES
    train_or_go_on(
        small_config(
            options.data, options.variant, BASE, options.epochs, seed, sampler=sampler, sizes=sizes
        ),
        folder,
    )
    seconds = time.perf_counter() - started
    source = open_source(options.data)
    predictors = [open_predictor(folder / "model.keras", size) for size in SIZES]
    row = [100.0 * evaluate(predictor, source).top(1) for predictor in predictors]
    print(
        f"seed {seed}, {sampler}: "
        + ", ".join(f"{size} px {value:.2f}%" for size, value in zip(SIZES, row, strict=True))
        + f" ({seconds:.0f} s)",
        flush=True,
    )
    return row


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a data source")
    parser.add_argument("--output", type=Path, default=Path("runs/multi_scale"))
    parser.add_argument("--variant", default="mobilevit_xxs")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    samplers = ("fixed", "multi_scale_variable_batch")
    rows: dict[str, list[list[float]]] = {sampler: [] for sampler in samplers}
    for seed in range(options.seeds):
        for sampler in samplers:
            rows[sampler].append(measure(options, seed, sampler))
    print(f"\ntop-1 %, mean of {options.seeds} seed(s)" + "".join(f"{s:>8} px" for s in SIZES))
    for sampler in samplers:
        values = np.mean(rows[sampler], axis=0)
        print(f"{sampler:32}" + "".join(f"{value:11.2f}" for value in values))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
