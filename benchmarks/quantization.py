"""Accuracy of every precision, and size and latency of their files.

Trains a float classifier for each seed, makes it quantization-aware and trains it on, exports all
precisions and the plain converter's full-int8, and measures each file on the validation images.
Prints the mean over the seeds and exits with status 1 where a figure misses its bound:

    python -m benchmarks.quantization --data folder:photos --size 64 --output runs/quantization
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import keras
import numpy as np

from benchmarks.plain_conversions import plain_full_int8
from benchmarks.small_training import small_config, train_or_go_on
from mobilevit_keras.data import EvaluationDataset, open_source
from mobilevit_keras.export import export_tflite, run_tflite
from mobilevit_keras.export.benchmark import benchmark
from mobilevit_keras.export.check_images import open_calibration_images
from mobilevit_keras.export.serving import keras_outputs
from mobilevit_keras.models import MobileViTImageClassifier, load_model
from mobilevit_keras.tasks import task_of
from train.config import ClassificationConfig

PTQ, QAT, PLAIN = "int8 calibrated", "int8 trained", "plain full int8"

# Most points of top-1 that a precision may lose, mean over the seeds.
LIMITS = {"float16": 0.3, "dynamic": 0.3, QAT: 0.5}
MINIMUM_AGREEMENT = 0.995


def aware_config(config: ClassificationConfig, weights: Path, epochs: int) -> ClassificationConfig:
    """The quantization-aware training after it: low rate, half the loss from the float model."""
    return dataclasses.replace(
        config,
        weights=str(weights),
        quantize="int8",
        distillation=0.5,
        epochs=epochs,
        initial_learning_rate=1e-5,
        peak_learning_rate=1e-4,
        final_learning_rate=1e-6,
        warmup_steps=10,
        ema_decay=0.9,
    )


def validation(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """The validation images, 0..255, and their labels."""
    dataset = EvaluationDataset(
        open_source(options.data),
        "validation",
        short_side=options.size,
        crop_size=options.size,
        batch_size=64,
    )
    images, labels = zip(*dataset.get_numpy_iterator(), strict=True)
    return 255.0 * np.concatenate(images), np.concatenate(labels)


def export_all(
    model: MobileViTImageClassifier,
    aware: MobileViTImageClassifier,
    calibration: np.ndarray,
    size: int,
    folder: Path,
) -> dict[str, Path]:
    """Writes every file; returns their paths by the name of the row."""
    files = {}
    for precision in ("float32", "float16", "dynamic", "int8", "int8_full"):
        name = PTQ if precision == "int8" else precision
        files[name] = folder / f"{name.replace(' ', '_')}.tflite"
        images = calibration if precision.startswith("int8") else None
        export_tflite(model, files[name], size, precision, calibration=images)
    files[QAT] = folder / "int8_trained.tflite"
    export_tflite(aware, files[QAT], size, "int8")
    files[PLAIN] = folder / "plain_full_int8.tflite"
    plain_full_int8(model, files[PLAIN], size, calibration / 255.0)
    return files


def measure_seed(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Trains, exports and measures one seed; returns each file's top-1 in percent."""
    folder = options.output / f"seed{seed}"
    config = small_config(
        options.data,
        options.variant,
        options.size,
        options.epochs,
        seed,
        activation=options.activation,
    )
    trained, aware = folder / "float", folder / "aware"
    train_or_go_on(config, trained)
    weights = trained / "model.keras"
    train_or_go_on(aware_config(config, weights, options.aware_epochs), aware)
    model, twin = (load_model(run / "model.keras") for run in (trained, aware))
    calibration = open_calibration_images(
        options.data, options.size, options.size, model.preprocessing
    )
    files = export_all(model, twin, calibration, options.size, folder)
    images, labels = validation(options)
    shares = {}
    for name, path in files.items():
        # The plain converter's file takes [0, 1].
        answers = run_tflite(path, images / 255.0 if name == PLAIN else images)
        (probabilities,) = answers.outputs.values()
        shares[name] = 100.0 * float(np.mean(probabilities.argmax(-1) == labels))
    task = task_of(twin)
    comparison = task.compare(
        keras_outputs(twin, task, images, 64), run_tflite(files[QAT], images).outputs
    )
    shares["agreement"] = 100.0 * comparison.top1_agreement
    print(f"seed {seed}: " + ", ".join(f"{k} {v:.2f}" for k, v in shares.items()), flush=True)
    return shares


def print_files(files: list[Path]) -> list[str]:
    """Prints size and latency of the files; returns the bounds that they miss."""
    timings = benchmark(files, rounds=10)
    print("file                      MB  of float32  parts   min ms  of float32")
    for timing in timings:
        share = timing.bytes / timings[0].bytes
        print(
            f"{Path(timing.file).stem:20} {timing.bytes / 1e6:7.2f}  {share:10.3f}"
            f"  {timing.xnnpack_partitions:5}  {timing.minimum_ms:7.2f}  {timing.ratio:10.3f}"
        )
    by_name = {Path(timing.file).stem: timing for timing in timings}
    quantized, plain = by_name["int8_calibrated"], by_name["plain_full_int8"]
    bounds = {
        "int8 size at most 0.30 of float32's": quantized.bytes <= 0.30 * timings[0].bytes,
        "int8 in one partition": quantized.xnnpack_partitions == 1,
        "int8 latency at most 1.05 of float32's": quantized.ratio <= 1.05,
        "int8 latency at most half of the plain one's": quantized.ratio <= 0.5 * plain.ratio,
    }
    return [text for text, holds in bounds.items() if not holds]


def measure_latency(size: int, folder: Path) -> list[str]:
    """Exports an untrained S and compares its files; returns the bounds that they miss."""
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    model = MobileViTImageClassifier.from_variant("mobilevit_s")
    calibration = np.random.default_rng(0).uniform(0, 255, (8, size, size, 3)).astype(np.float32)
    files = []
    for precision in ("float32", "float16", "dynamic", "int8", "int8_full"):
        name = "int8_calibrated" if precision == "int8" else precision
        files.append(folder / f"{name}.tflite")
        images = calibration if precision.startswith("int8") else None
        report = export_tflite(model, files[-1], size, precision, calibration=images)
        if precision == "int8":
            share = report["structure"]["int8_share"]
            print(f"int8 share of multiply-adds outside attention: {share:.4f}")
    files.append(folder / "plain_full_int8.tflite")
    plain_full_int8(model, files[-1], size, calibration / 255.0)
    return print_files(files)


def missed_accuracy(rows: list[dict[str, float]]) -> list[str]:
    """Prints the mean over the seeds; returns the bounds that it misses."""
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    print(f"\nmean of {len(rows)} seed(s)    top-1 %   to float32")
    for name, value in mean.items():
        if name != "agreement":
            print(f"{name:18} {value:10.2f}  {value - mean['float32']:+10.2f}")
    print(f"the trained model and its file: same class on {mean['agreement']:.2f}% of the images\n")
    missed = [
        f"{name} within {limit} points of float32"
        for name, limit in LIMITS.items()
        if mean[name] < mean["float32"] - limit
    ]
    if mean[QAT] < mean[PTQ]:
        missed.append(f"{QAT} at or above {PTQ}")
    if mean["agreement"] < 100 * MINIMUM_AGREEMENT:
        missed.append(f"agreement of {100 * MINIMUM_AGREEMENT}%")
    return missed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a data source; without it only latency is measured")
    parser.add_argument("--output", type=Path, default=Path("runs/quantization"))
    parser.add_argument("--variant", default="mobilevit_xxs")
    parser.add_argument("--activation", default="silu")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--aware-epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--latency-size", type=int, default=256, help="of S; 0 leaves it out")
    options = parser.parse_args(arguments)
    missed = []
    if options.data:
        rows = [measure_seed(options, seed) for seed in range(options.seeds)]
        missed += missed_accuracy(rows)
    if options.latency_size:
        missed += measure_latency(options.latency_size, options.output / "latency")
    for text in missed:
        print(f"missed: {text}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
