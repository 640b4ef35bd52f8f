"""Time and memory of conversions, and whether a process that converts again and again grows.

    python -m benchmarks.conversion [--variant mobilevit_s] [--size 256] [--repeats 5]

Converts a model with random weights to every format and precision, then to one of them `--repeats`
times.
Memory is the peak of this process and of its largest converter together. Exits with status 1 where
a conversion takes more than 90 s or 6 GB, or the repeats leave more than 64 MB behind.
"""

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import keras

from mobilevit_keras import MobileViTImageClassifier
from mobilevit_keras.export import export_tfjs, export_tflite
from mobilevit_keras.tasks.task import Comparison
from tests.tiny import coloured_images, tell_images_apart

SECONDS, GIGABYTES, GROWTH_MB = 90.0, 6.0, 64.0
TFLITE = ("float32", "float16", "dynamic", "int8", "int8_full")


def peak_gigabytes() -> float:
    """Most memory that this process and its largest child have held so far."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024 / 1e9


def resident_megabytes() -> float:
    """What this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="mobilevit_s")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    # An untrained one answers nearly alike to all images, which exports refuse.
    model = tell_images_apart(MobileViTImageClassifier.from_variant(options.variant))
    calibration = coloured_images(100, options.size)
    is_within = True
    with tempfile.TemporaryDirectory() as name:

        def convert(kind: str) -> None:
            if kind == "tfjs":
                export_tfjs(model, Path(name) / "tfjs", options.size, images=calibration[:8])
                return
            ranges = calibration if kind.startswith("int8") else None
            # What rounding does to random weights' answers is no matter of time.
            with mock.patch.object(Comparison, "check"):
                export_tflite(
                    model,
                    Path(name) / "x.tflite",
                    options.size,
                    kind,
                    images=calibration[:8],
                    calibration=ranges,
                )

        print("precision   seconds  peak GB so far")
        for kind in (*TFLITE, "tfjs"):
            started = time.perf_counter()
            convert(kind)
            seconds, peak = time.perf_counter() - started, peak_gigabytes()
            is_within &= seconds <= SECONDS and peak <= GIGABYTES
            print(f"{kind:10} {seconds:8.1f} {peak:15.2f}", flush=True)
        held = []
        for _ in range(options.repeats):
            convert("float32")
            held.append(resident_megabytes())
        print("MB held after each float32 again: " + ", ".join(f"{value:.0f}" for value in held))
    return int(not is_within or held[-1] - held[0] > GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
