"""Latency of this package's float32 export against a plain Keras conversion, same run, per variant.

Prints a table and exits with status 1 where the ratio is above 1.05 or the graph is not one
XNNPACK partition. Times are the minimum of interleaved rounds.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import keras

from benchmarks.plain_conversions import plain_tflite
from mobilevit_keras import MobileViTImageClassifier
from mobilevit_keras.export import export_tflite
from mobilevit_keras.export.benchmark import benchmark
from mobilevit_keras.models import VARIANTS

LIMIT = 1.05


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    failed = False
    print("variant        plain ms  folded ms  ratio  partitions  rank  plain partitions")
    for variant in options.variants:
        keras.utils.set_random_seed(0)
        model = MobileViTImageClassifier.from_variant(variant)
        with tempfile.TemporaryDirectory() as folder:
            plain, folded = Path(folder) / "plain.tflite", Path(folder) / "folded.tflite"
            plain_tflite(model, plain, options.size)
            report = export_tflite(model, folded, options.size)
            first, second = benchmark([plain, folded], rounds=options.rounds)
        failed |= second.ratio > LIMIT or second.xnnpack_partitions != 1
        print(
            f"{variant:14} {first.minimum_ms:8.2f}  {second.minimum_ms:9.2f}  {second.ratio:5.3f}"
            f"  {second.xnnpack_partitions:10}  {report['structure']['max_rank']:4}"
            f"  {first.xnnpack_partitions:16}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
