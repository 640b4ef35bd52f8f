"""Times training steps of Keras `fit` on batches that lie in memory already.

  python -m train benchmark --variant mobilevit_xxs --base-size 256 --batch-size 16

Prints the time to the first step, the images per second at each size, and the time of a multi-scale
epoch over that of a fixed-size one for the same number of images (by pixels it cannot be under
0.74). Sizes take turns, so that a machine whose speed drifts slows all of them alike.
"""

import argparse
import json
import os
import platform

from mobilevit_keras.paper import SIZES

HELP = "time training steps at each size"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags to `parser`."""
    parser.add_argument("--variant", default="mobilevit_xxs", metavar="NAME")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="N")
    parser.add_argument("--base-size", type=int, default=256, metavar="N")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="(default: 16)")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="(default: 6)")
    parser.add_argument("--precision", default="float32", metavar="NAME")
    parser.add_argument("--jit-compile", action="store_true")
    parser.add_argument(
        "--images", type=int, default=100_000, metavar="N", help="of the epochs compared"
    )


def main(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from mobilevit_keras.data import Schedule
    from train.config import SIZES_AND_BATCHES, ClassificationConfig
    from train.timing import time_steps

    config = ClassificationConfig(
        variant=options.variant,
        sizes=options.sizes,
        base_size=options.base_size,
        batch_size=options.batch_size,
        precision=options.precision,
        jit_compile=options.jit_compile,
    )
    multi_scale, fixed = (
        Schedule(
            **{name: getattr(config, name) for name in SIZES_AND_BATCHES} | {"sampler": sampler}
        )
        for sampler in ("multi_scale_variable_batch", "fixed")
    )
    scales = dict(multi_scale.scales) | dict(fixed.scales)
    first, seconds, traces = time_steps(config, scales, options.rounds)

    def epoch_seconds(schedule) -> float:
        steps = schedule.epoch(0, options.images)
        # For the same images: a last batch is seldom full, and a whole step all the same.
        whole = sum(seconds[size] for size in steps.heights.tolist())
        return whole * options.images / int(steps.batch_sizes.sum())

    ratio = epoch_seconds(multi_scale) / epoch_seconds(fixed)
    print(f"{options.variant} on {os.cpu_count()} cores, {platform.machine()}, {config.precision}")
    print(f"time to the first step: {first:.1f} s; traces of the step: {traces}")
    print(f"{'size':>6} {'batch':>6} {'s/step':>8} {'images/s':>9}")
    for size, batch in sorted(scales.items()):
        print(f"{size:>6} {batch:>6} {seconds[size]:>8.3f} {batch / seconds[size]:>9.1f}")
    print(f"multi-scale epoch / fixed-size epoch at {config.base_size}: {ratio:.3f}")
    summary = {"first_step_seconds": round(first, 2), "traces": traces, "ratio": round(ratio, 4)}
    print(json.dumps({**summary, "seconds_per_step": {k: round(v, 4) for k, v in seconds.items()}}))
    return 0
