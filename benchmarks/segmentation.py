"""Mean IoU by input size: a segmenter trained at several sizes with variable batches against one.

Trains both from scratch on the same masks for the same number of steps, of which each has as many
pixels, and so for about as long; evaluates each model at three sizes, at the images' full
resolution. Prints the figures; nothing is required, the table is the result:

    python -m benchmarks.segmentation --data masks:camvid --output runs/segmentation

Started again it goes on where it was, also in the middle of a training.
"""

import argparse
import csv
import sys
from pathlib import Path

from benchmarks.small_training import train_or_go_on
from mobilevit_keras.commands import parse_size, size_text
from mobilevit_keras.data import Schedule, open_source
from mobilevit_keras.evaluation import evaluate, open_predictor
from train.config import SIZES_AND_BATCHES, SegmentationConfig

SIZES = (160, 192, 224, 256)
BASE = 192
SAMPLERS = ("multi_scale_variable_batch", "fixed")


def config_of(options: argparse.Namespace, sampler: str, epochs: int) -> SegmentationConfig:
    """What is trained: the sizes and the number of epochs tell one from the other."""
    return SegmentationConfig(
        data=options.data,
        variant=options.variant,
        sampler=sampler,
        sizes=(BASE,) if sampler == "fixed" else SIZES,
        base_size=BASE,
        batch_size=8,
        # Street scenes of 360 pixels, near their own size and enlarged.
        short_side=(1.2, 2.4),
        epochs=epochs,
        initial_learning_rate=0.0001,
        peak_learning_rate=0.0007,
        final_learning_rate=0.00001,
        warmup_steps=300,
        # Nothing has learned yet, the backbone as little as the head.
        head_learning_rate_factor=1.0,
        clip_norm=1.0,
        ema_decay=0.995,
        evaluation_size=(288, 384),
        checkpoint_every=500,
        seed=options.seed,
        verbose=2,
    )


def schedule_of(config: SegmentationConfig) -> Schedule:
    return Schedule(**{name: getattr(config, name) for name in SIZES_AND_BATCHES})


def seconds_of(folder: Path, schedule: Schedule, images: int) -> float:
    """What the training's steps took, by the rates of its log."""
    with open(folder / "log.csv", newline="", encoding="utf-8") as file:
        rates = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    counts = (schedule.epoch(epoch, images).batch_sizes.sum() for epoch in range(len(rates)))
    return sum(int(count) / rate for count, rate in zip(counts, rates, strict=True))


def measure(options: argparse.Namespace, sampler: str) -> list[float]:
    """Trains, and returns the mean IoU in percent at each of the sizes."""
    source = open_source(options.data, fields=("mask",))
    images = source.num_examples("train")
    # As many steps as the multi-scale training has.
    steps = schedule_of(config_of(options, SAMPLERS[0], 1)).total_steps(options.epochs, images)
    fixed = schedule_of(config_of(options, "fixed", 1))
    epochs = options.epochs if sampler != "fixed" else steps // len(fixed.epoch(0, images))
    config = config_of(options, sampler, epochs)
    folder = options.output / f"seed{options.seed}" / sampler
    train_or_go_on(config, folder)
    row = []
    for size in options.evaluate:
        evaluation = evaluate(open_predictor(folder / "model.keras", size), source, batch_size=8)
        row.append(100.0 * evaluation.result["mean_iou"])
    seconds = seconds_of(folder, schedule_of(config), images)
    figures = ", ".join(
        f"{size_text(size)} {value:.1f}%" for size, value in zip(options.evaluate, row, strict=True)
    )
    print(f"{sampler}: {figures}; {epochs} epochs, {seconds / 60:.0f} min", flush=True)
    return row


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a data source with masks")
    parser.add_argument("--output", type=Path, default=Path("runs/segmentation"))
    parser.add_argument("--variant", default="mobilevit_xxs")
    parser.add_argument("--epochs", type=int, default=105, help="of the multi-scale training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--evaluate",
        type=parse_size,
        nargs="+",
        metavar="SIDE|HxW",
        default=[(192, 256), (288, 384), (384, 512)],
        help="sizes to evaluate at",
    )
    options = parser.parse_args(arguments)
    rows = {sampler: measure(options, sampler) for sampler in SAMPLERS}
    titles = "".join(f"{size_text(size):>11}" for size in options.evaluate)
    print(f"\n{'mean IoU, %':32}{titles}")
    for sampler, values in rows.items():
        print(f"{sampler:32}" + "".join(f"{value:11.1f}" for value in values))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
