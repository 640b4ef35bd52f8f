"""Classifies images with .tflite files on a device without TensorFlow, such as a Raspberry Pi 5.

This one file is all that is copied to the device, beside the models with their labels.txt:

    pip install ai-edge-litert numpy pillow
    python classify.py model.tflite cat.jpg dog.jpg
    python classify.py model.tflite mobilenet_v2.tflite --folder photos --threads 4

For image files it prints the best class names. With --folder, a folder for each class as in
training, it prints a table: images, time per image, top-1 and top-5 of each model.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}


class Classifier:
    """A .tflite file that takes RGB images and gives a probability for each class.

    Args:
        path: The file. `labels.txt` and `NAME.report.json` are read from beside it where they are.
        num_threads: Threads of an inference.
    """

    def __init__(self, path: Path, num_threads: int) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"There is no model file {path}.")
        self.name = path.name
        self.interpreter = Interpreter(str(path), num_threads=num_threads)
        self.interpreter.allocate_tensors()
        self.entry = self.interpreter.get_input_details()[0]
        self.exit = self.interpreter.get_output_details()[0]
        _, self.height, self.width, _ = (int(side) for side in self.entry["shape"])
        num_classes = int(self.exit["shape"][-1])
        self.labels = [str(index) for index in range(num_classes)]
        labels = path.parent / "labels.txt"
        if labels.is_file():
            names = labels.read_text("utf-8").splitlines()
            # Another model's names may lie in the same folder.
            self.labels = names if len(names) == num_classes else self.labels
        # Where no report says otherwise, the crop covers 7/8 of the short side.
        self.short_side = round(min(self.height, self.width) * 8 / 7)
        self.resampling = Image.Resampling.BILINEAR
        report = path.with_suffix(".report.json")
        if report.is_file():
            preprocessing = json.loads(report.read_text("utf-8"))["preprocessing"]
            scale = min(self.height, self.width) / preprocessing["crop_size"]
            self.short_side = round(preprocessing["short_side"] * scale)
            self.resampling = Image.Resampling[preprocessing["interpolation"].upper()]

    def prepare(self, path: Path) -> np.ndarray:
        """Reads an image upright in RGB, resizes its short side and crops the centre.

        Returns:
            `(1, H, W, 3)`, 0..255.
        """
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        width, height = (side * self.short_side // min(image.size) for side in image.size)
        # Each pixel from its four neighbours, as in training: no smoothing of larger images.
        matrix = (image.width / width, 0, 0, 0, image.height / height, 0)
        image = image.transform((width, height), Image.Transform.AFFINE, matrix, self.resampling)
        left, top = (width - self.width) // 2, (height - self.height) // 2
        image = image.crop((left, top, left + self.width, top + self.height))
        return np.asarray(image)[None].astype(self.entry["dtype"])

    def classify(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns the probabilities `(K,)` and the time in milliseconds."""
        self.interpreter.set_tensor(self.entry["index"], image)
        start = time.perf_counter()
        self.interpreter.invoke()
        milliseconds = 1000.0 * (time.perf_counter() - start)
        return self.interpreter.get_tensor(self.exit["index"])[0], milliseconds


def print_classes(classifiers: list[Classifier], images: list[Path], count: int) -> None:
    """Prints the best classes of each image."""
    for path in images:
        print(path)
        for classifier in classifiers:
            probabilities, milliseconds = classifier.classify(classifier.prepare(path))
            best = np.argsort(-probabilities, kind="stable")[:count]
            answers = ", ".join(f"{classifier.labels[i]} {probabilities[i]:.1%}" for i in best)
            print(f"  {classifier.name}: {answers} ({milliseconds:.1f} ms)")


def labelled_images(folder: Path) -> list[tuple[Path, str]]:
    """The images of a folder of class folders; of its `validation` part where it has one."""
    root = folder / "validation" if (folder / "validation").is_dir() else folder
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    images = [
        (path, path.parent.name)
        for path in sorted(root.glob("*/*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not images:
        raise ValueError(f"The folder must hold a folder of images for each class: {folder}.")
    return images


def print_table(classifiers: list[Classifier], images: list[tuple[Path, str]]) -> None:
    """Prints time and accuracy of each model."""
    print(f"{'model':32} {'images':>6} {'ms/image':>9} {'top-1':>7} {'top-5':>7}")
    for classifier in classifiers:
        indices = {name: index for index, name in enumerate(classifier.labels)}
        known = [(path, indices[name]) for path, name in images if name in indices]
        if not known:
            # A model of other classes, taken along for its time.
            known = [(path, -1) for path, _ in images]
        classifier.classify(classifier.prepare(known[0][0]))
        times, firsts, fives = [], 0, 0
        for path, label in known:
            probabilities, milliseconds = classifier.classify(classifier.prepare(path))
            times.append(milliseconds)
            best = np.argsort(-probabilities, kind="stable")[:5]
            firsts += best[0] == label
            fives += label in best
        shares = [f"{share / len(known):.1%}" for share in (firsts, fives)]
        if known[0][1] < 0:
            shares = ["-", "-"]
        print(
            f"{classifier.name:32} {len(known):6} {np.median(times):9.1f} "
            f"{shares[0]:>7} {shares[1]:>7}"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help=".tflite files, then image files")
    parser.add_argument("--folder", type=Path, help="a folder for each class: print a table")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: 5)")
    options = parser.parse_args(arguments)
    models = [path for path in options.files if path.suffix == ".tflite"]
    images = [path for path in options.files if path.suffix != ".tflite"]
    if not models or bool(images) == bool(options.folder):
        parser.error("a .tflite file is needed, and either image files or --folder")
    try:
        classifiers = [Classifier(path, options.threads) for path in models]
        if options.folder:
            print_table(classifiers, labelled_images(options.folder))
        else:
            print_classes(classifiers, images, options.top)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
