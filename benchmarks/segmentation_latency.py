"""Latency and size of segmenters' .tflite files, each precision beside the others in turns.

  python -m benchmarks.segmentation_latency --torch-python path/to/venv/bin/python

With that Python, which needs torch, transformers and litert-torch, Hugging Face's model converted
by litert-torch takes its turns too. Exits with status 1 where a file is more than one XNNPACK
partition, int8 takes over 0.6 of float32's time on a processor with products of bytes, the int8
file is over 0.30 of float32's size (of S; 0.40 of the smaller ones, where the graph itself counts),
or float32 is slower than the other's.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import keras
import numpy as np

from benchmarks.natural_weights import natural_segmenter
from mobilevit_keras.export import export_tflite
from mobilevit_keras.export.benchmark import benchmark
from mobilevit_keras.export.check_images import generated_images, open_check_images
from mobilevit_keras.models import VARIANTS
from mobilevit_keras.tasks.task import Comparison

INT8_TIME = 0.6
INT8_SIZE = {"mobilevit_s": 0.30}
INT8_SIZE_OF_SMALL = 0.40
PRECISIONS = ("float32", "float16", "dynamic", "int8")


def has_byte_products() -> bool:
    """Whether the processor multiplies and adds bytes in one instruction."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.is_file() else ()
    return bool({"avx512_vnni", "avx_vnni", "asimddp", "i8mm"} & set(flags))


def write_files(variant: str, options: argparse.Namespace, folder: Path) -> list[Path]:
    """Exports one variant in every precision, the other's file last; returns the files."""
    keras.utils.set_random_seed(0)
    size = (options.size, options.size)
    images = None
    files = []
    model = natural_segmenter(variant, options.num_classes, options.size)
    images = open_check_images(options.images, *size, model.preprocessing)
    for precision in PRECISIONS:
        files.append(folder / f"{precision}.tflite")
        calibration = None
        if precision == "int8":
            calibration = np.concatenate([images, generated_images(*size)])
        # What rounding does to random weights' answers is printed; times don't hang on it.
        with mock.patch.object(Comparison, "check"):
            report = export_tflite(model, files[-1], size, precision, images, calibration)
        print(f"  {precision}: {report['parity']['summary']}", flush=True)
    if options.torch_python:
        files.append(folder / "litert_torch.tflite")
        script = Path(__file__).with_name("litert_torch_segmenter.py")
        command = [options.torch_python, str(script), str(files[-1]), "--variant", variant]
        command += ["--size", str(options.size), "--num-classes", str(options.num_classes)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{script.name} failed.\n{done.stderr[-3000:]}")
        print(f"  {done.stdout.splitlines()[-1]}", flush=True)
    return files


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--variants", nargs="+", default=["mobilevit_xxs", "mobilevit_s"], choices=list(VARIANTS)
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--num-classes", type=int, default=21)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", help="photographs to compare on; two by default")
    parser.add_argument("--torch-python", metavar="FILE")
    options = parser.parse_args(arguments)
    failures = []
    for variant in options.variants:
        print(f"{variant}, {options.size} px, {options.threads} thread(s), {platform.machine()}")
        with tempfile.TemporaryDirectory() as folder:
            files = write_files(variant, options, Path(folder))
            timings = benchmark(files, options.threads, options.rounds, runs=3)
        print(f"  {'file':<22} {'MB':>6} {'of f32':>6} {'ms':>8} {'median':>8} {'ratio':>6} parts")
        by_name = {Path(timing.file).stem: timing for timing in timings}
        for name, timing in by_name.items():
            print(
                f"  {name:<22} {timing.bytes / 1e6:6.2f} {timing.bytes / timings[0].bytes:6.3f} "
                f"{timing.minimum_ms:8.2f} {timing.median_ms:8.2f} {timing.ratio:6.3f} "
                f"{timing.xnnpack_partitions:5}",
                flush=True,
            )
            if name in PRECISIONS and timing.xnnpack_partitions != 1:
                failures.append(f"{variant} {name}: {timing.xnnpack_partitions} partitions")
        int8, peer = by_name["int8"], by_name.get("litert_torch")
        if has_byte_products() and int8.ratio > INT8_TIME:
            failures.append(f"{variant} int8: {int8.ratio:.3f} of float32's time")
        if int8.bytes > INT8_SIZE.get(variant, INT8_SIZE_OF_SMALL) * timings[0].bytes:
            failures.append(
                f"{variant} int8: {int8.bytes / timings[0].bytes:.3f} of float32's size"
            )
        if peer and peer.ratio < 1.0:
            failures.append(f"{variant} float32: litert-torch's takes {peer.ratio:.3f} of its time")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
