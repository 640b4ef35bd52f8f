"""Classifies images with .tflite files on a device without TensorFlow, such as a Raspberry Pi 5.

This one file is all that is copied to the device, beside the models, which carry their class names
and preprocessing:

    pip install ai-edge-litert numpy pillow
    python classify.py model.tflite cat.jpg dog.jpg
    python classify.py model.tflite mobilenet_v2.tflite --folder photos --threads 4

For image files it prints the best class names. With --folder, a folder for each class as in
training, it prints a table: images, time per image, top-1 and top-5 of each model. Of a folder with
a `validation` part that part is taken; of any other all images, those trained on among them.
"""

import argparse
import json
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}


def describe(path: Path) -> dict:
    """What a file says about itself; of exports of version 0.1.0, which say nothing, their report.

    Returns:
        The description, or {} where there is none.

    Raises:
        ValueError: If it cannot be understood.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("mobilevit_keras.json"))
    except (zipfile.BadZipFile, KeyError):
        pass
    report = path.with_suffix(".report.json")
    labels = path.parent / "labels.txt"
    found = json.loads(report.read_text("utf-8")) if report.is_file() else {}
    if labels.is_file():
        found["class_names"] = labels.read_text("utf-8").splitlines()
    return found


def resized_size(
    height: int, width: int, short_side: int, crop: tuple[int, int]
) -> tuple[int, int]:
    """Height and width to which an image is resized before its centre is cropped, as in training.

    The image becomes just large enough to cover a box of the crop's aspect, whose shorter side is
    `short_side`. What does not divide is floored.
    """
    box_height, box_width = (side * short_side // min(crop) for side in crop)
    if box_height * width >= box_width * height:
        return box_height, width * box_height // height
    return height * box_width // width, box_width


class Classifier:
    """A .tflite file that takes RGB images and gives a probability for each class.

    Args:
        path: The file.
        num_threads: Threads of an inference.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file.
    """

    def __init__(self, path: Path, num_threads: int) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"There is no model file {path}.")
        self.name = path.name
        description = describe(path)
        task = description.get("task", "classification")
        if task != "classification":
            raise ValueError(f"A classifier is needed. Received: {path}, made for {task}.")
        self.interpreter = Interpreter(str(path), num_threads=num_threads)
        self.interpreter.allocate_tensors()
        self.entry = self.interpreter.get_input_details()[0]
        self.exit = self.interpreter.get_output_details()[0]
        _, self.height, self.width, _ = (int(side) for side in self.entry["shape"])
        num_classes = int(self.exit["shape"][-1])
        names = description.get("class_names") or []
        # Names beside an old file may be another model's.
        self.labels = names if len(names) == num_classes else list(map(str, range(num_classes)))
        # Where nothing says otherwise, the crop covers 7/8 of the short side.
        default = {"short_side": 8, "crop_size": 7, "interpolation": "bilinear"}
        preprocessing = description.get("preprocessing", default)
        side = min(self.height, self.width)
        scaled = round(preprocessing["short_side"] * side / preprocessing["crop_size"])
        self.short_side = max(side, scaled)
        self.resampling = Image.Resampling[preprocessing["interpolation"].upper()]

    def prepare(self, path: Path) -> np.ndarray:
        """Reads an image upright in RGB, resizes it and crops the centre.

        Returns:
            `(1, H, W, 3)`, 0..255.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no image, or one too large.
        """
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file).convert("RGB")
        except Image.DecompressionBombError as error:
            raise ValueError(f"{path} is too large an image: {error}") from error
        except SyntaxError as error:  # What Pillow raises for a broken PNG.
            raise ValueError(f"{path} is no whole image: {error}") from error
        crop = (self.height, self.width)
        height, width = resized_size(image.height, image.width, self.short_side, crop)
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


def print_classes(classifiers: list[Classifier], images: list[Path], count: int) -> int:
    """Prints the best classes of each image; returns how many could not be read."""
    unreadable = 0
    for path in images:
        try:
            prepared = [classifier.prepare(path) for classifier in classifiers]
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            unreadable += 1
            continue
        print(path)
        for classifier, image in zip(classifiers, prepared, strict=True):
            probabilities, milliseconds = classifier.classify(image)
            best = np.argsort(-probabilities, kind="stable")[:count]
            answers = ", ".join(f"{classifier.labels[i]} {probabilities[i]:.1%}" for i in best)
            print(f"  {classifier.name}: {answers} ({milliseconds:.1f} ms)")
    return unreadable


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
    if root == folder:
        print(
            f"note: {folder} has no validation part: all {len(images)} images are scored, those "
            "that a model was trained on among them",
            file=sys.stderr,
        )
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
    """Runs the script; returns the exit status: 2 after a mistake, or a file that is no image."""
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
            return 0
        return 2 if print_classes(classifiers, images, options.top) else 0
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
