"""Does fine-tuning help? Trained weights against fresh ones, on the same images for as many steps.

    python benchmarks/fine_tuning.py [--images FOLDER] [--seeds 0 1] [--output FOLDER]

MobileViT-XXS is trained on seven of the ten classes of a small image folder at 64 pixels, and
then, through `python -m train classification --weights`, on the other three. Beside it, fresh
weights are trained on those three for the same number of steps, with the same images in the same
order, at the fine-tuning rate and at the usual, several times higher one. Prints a table of
validation top-1 and exits with status 1 where fine-tuning does not win with every seed.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT.parent / "shared" / "data" / "cifar10_small"
NUM_NEW_CLASSES = 3

COMMON = {
    "variant": "mobilevit_xxs",
    "sampler": "fixed",
    "sizes": 64,
    "base-size": 64,
    "batch-size": 64,
    "augmentation": "basic",
    "label-smoothing": 0.1,
    "evaluation-short-side": 64,
    "evaluation-crop-size": 64,
    "verbose": 2,
}
FRESH_RATES = {"initial-learning-rate": 2e-4, "peak-learning-rate": 2e-3}
LOW_RATES = {"initial-learning-rate": 2e-5, "peak-learning-rate": 3e-4}


def share(images: Path, classes: list[str], folder: Path) -> Path:
    """Makes an image folder of some of the classes, out of links."""
    for split in ("train", "validation"):
        (folder / split).mkdir(parents=True)
        for name in classes:
            (folder / split / name).symlink_to((images / split / name).resolve())
    return folder


def train(data: Path, output: Path, epochs: int, seed: int, **flags) -> float:
    """Runs the train command; returns the averaged weights' validation top-1 at the end."""
    flags = COMMON | {"epochs": epochs, "seed": seed} | flags
    arguments = [f"--data=folder:{data}", f"--output={output}"]
    for name, value in flags.items():
        arguments += [f"--{name}", *str(value).split()]
    started = time.monotonic()
    command = [sys.executable, "-m", "train", "classification", *arguments]
    with open(output.with_suffix(".txt"), "w", encoding="utf-8") as log:
        subprocess.run(command, cwd=ROOT, check=True, stdout=log, stderr=subprocess.STDOUT)
    with open(output / "log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    top1 = float(rows[-1]["val_top1"])
    print(f"{output.name}: {100 * top1:.1f} %, {time.monotonic() - started:.0f} s", flush=True)
    return top1


def compare(images: Path, folder: Path, epochs: tuple[int, int], seeds: list[int]) -> dict:
    """Returns validation top-1 with each seed, by the way of training."""
    classes = sorted(path.name for path in (images / "train").iterdir())
    old = share(images, classes[:-NUM_NEW_CLASSES], folder / "images" / "old")
    new = share(images, classes[-NUM_NEW_CLASSES:], folder / "images" / "new")
    pretraining = {"ema-decay": 0.99, "final-learning-rate": 2e-5, "warmup-steps": 100}
    train(old, folder / "pretrained", epochs[0], 0, **FRESH_RATES, **pretraining)
    short = {
        "ema-decay": 0.95,
        "final-learning-rate": 3e-6,
        "warmup-steps": 10,
        "crop-area": "0.35 1",
    }
    weights = {"weights": folder / "pretrained" / "model.keras"}
    ways = {
        "fine-tuned": LOW_RATES | weights,
        "fine-tuned, stages 1-2 frozen": LOW_RATES | weights | {"freeze": "stages:2"},
        "from scratch, usual rate": FRESH_RATES,
        "from scratch, fine-tuning rate": LOW_RATES,
    }
    results = {}
    for way, flags in ways.items():
        name = way.replace(",", "").replace(" ", "-")
        results[way] = [
            train(new, folder / f"{name}-{seed}", epochs[1], seed, **short, **flags)
            for seed in seeds
        ]
    return results


def table(results: dict, seeds: list[int]) -> str:
    """The results as Markdown."""
    lines = [
        "| way | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean |",
        "|---|" + "---:|" * (len(seeds) + 1),
    ]
    for way, values in results.items():
        numbers = [*values, statistics.mean(values)]
        lines.append(f"| {way} | " + " | ".join(f"{100 * value:.1f}" for value in numbers) + " |")
    return "\n".join(lines)


def main() -> int:
    """Runs the comparison; returns 1 where fine-tuning does not win."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, default=IMAGES, help="train and validation folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--epochs", type=int, nargs=2, default=(20, 8), help="of the seven and the three classes"
    )
    parser.add_argument("--output", type=Path, help="keeps the runs there")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.output or temporary).resolve()
        results = compare(options.images, folder, tuple(options.epochs), options.seeds)
    print(f"Validation top-1 in percent after {options.epochs[1]} epochs of three classes:\n")
    print(table(results, options.seeds))
    scratch = [values for way, values in results.items() if way.startswith("from scratch")]
    best_scratch = [max(values) for values in zip(*scratch, strict=True)]
    wins = [a > b for a, b in zip(results["fine-tuned"], best_scratch, strict=True)]
    return 0 if all(wins) else 1


if __name__ == "__main__":
    sys.exit(main())
