"""Latency and size of detectors' .tflite files, float32 and int8 beside others in turns.

  python -m benchmarks.detection_latency --torch-python path/to/venv/bin/python

With that Python, which needs torch, torchvision and litert-torch, torchvision's SSDLite on
MobileNetV3-Large converted by litert-torch takes its turns too. Exits with status 1 where a file of
ours is more than one XNNPACK partition, int8 takes over 0.6 of float32's time on a processor with
products of bytes, or int8 of XXS is slower than the other's float32.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import keras

from benchmarks.natural_weights import natural_detector
from benchmarks.segmentation_latency import INT8_TIME, has_byte_products
from mobilevit_keras.export import export_tflite
from mobilevit_keras.export.benchmark import benchmark
from mobilevit_keras.export.check_images import generated_images
from mobilevit_keras.models import VARIANTS
from mobilevit_keras.models.statistics import count

PRECISIONS = ("float32", "int8")


def write_files(variant: str, options: argparse.Namespace, folder: Path) -> list[Path]:
    """Exports one variant in both precisions; returns the files."""
    keras.utils.set_random_seed(0)
    model = natural_detector(variant, options.num_classes, options.size)
    statistics = count(model, options.size)
    print(f"  {statistics.multiply_adds / 1e6:.0f} M multiply-adds", flush=True)
    files = []
    for precision in PRECISIONS:
        files.append(folder / f"{precision}.tflite")
        # Two photographs, and their kin.
        calibration = generated_images(options.size, options.size) if precision == "int8" else None
        report = export_tflite(
            model, files[-1], options.size, precision, options.images, calibration
        )
        print(f"  {precision}: {report['parity']['summary']}", flush=True)
    return files


def write_peer(options: argparse.Namespace, folder: Path) -> Path:
    """litert-torch's conversion of torchvision's SSDLite."""
    path, script = (
        folder / "litert_torch.tflite",
        Path(__file__).with_name("litert_torch_detector.py"),
    )
    command = [options.torch_python, str(script), str(path), "--size", str(options.size)]
    command += ["--num-classes", str(options.num_classes)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script.name} failed.\n{done.stderr[-3000:]}")
    print(done.stdout.splitlines()[-1], flush=True)
    return path


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--variants", nargs="+", default=["mobilevit_xxs", "mobilevit_s"], choices=list(VARIANTS)
    )
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--num-classes", type=int, default=80)
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
            if options.torch_python:
                files.append(write_peer(options, Path(folder)))
            timings = benchmark(files, options.threads, options.rounds, runs=3)
        print(f"  {'file':<22} {'MB':>6} {'of f32':>6} {'ms':>8} {'median':>8} {'ratio':>6} parts")
        for timing in timings:
            name = Path(timing.file).stem
            print(
                f"  {name:<22} {timing.bytes / 1e6:6.2f} {timing.bytes / timings[0].bytes:6.3f} "
                f"{timing.minimum_ms:8.2f} {timing.median_ms:8.2f} {timing.ratio:6.3f} "
                f"{timing.xnnpack_partitions:5}",
                flush=True,
            )
            if name in PRECISIONS and timing.xnnpack_partitions != 1:
                failures.append(f"{variant} {name}: {timing.xnnpack_partitions} partitions")
            if name == "int8" and has_byte_products() and timing.ratio > INT8_TIME:
                failures.append(f"{variant} int8: {timing.ratio:.3f} of float32's time")
        times = {Path(timing.file).stem: timing.minimum_ms for timing in timings}
        if variant == "mobilevit_xxs" and times["int8"] > times.get("litert_torch", float("inf")):
            failures.append(f"{variant} int8: {times['int8']:.1f} ms, over litert-torch's float32")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
