"""Runs .tflite files on images on a device without TensorFlow, such as a Raspberry Pi 5.

This one file is all that is copied to the device, beside the models, which carry their class names
and preprocessing:

    pip install ai-edge-litert numpy pillow
    python predict.py model.tflite cat.jpg dog.jpg
    python predict.py model.tflite mobilenet_v2.tflite --folder photos --threads 4
    python predict.py streets.tflite street.jpg --output masks
    python predict.py animals.tflite street.jpg --output boxes --score 0.5

For image files it prints what each model says of them: of a classifier the best class names, of a
segmenter the classes with their shares of the image, of a detector the boxes as JSON, in pixels of
the image. With --output it also writes, for each image, a segmenter's NAME.mask.png, a picture of
class numbers with a palette, and NAME.overlay.jpg, the image with the classes' colours laid over
it, or a detector's NAME.boxes.jpg, the image with the boxes.

With --folder, a folder for each class as in training, it prints a table of classifiers: images,
time per image, top-1 and top-5 of each. Of a folder with a `validation` part that part is taken; of
any other all images, those trained on among them.
"""

import argparse
import contextlib
import json
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageDraw, ImageFont, ImageOps

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}


# Files


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


def read_image(path: Path) -> Image.Image:
    """Reads an image upright in RGB.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no image, or one too large.
    """
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large an image: {error}") from error
    except SyntaxError as error:  # What Pillow raises for a broken PNG.
        raise ValueError(f"{path} is no whole image: {error}") from error


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` to write to, which becomes `path` where all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Raises ValueError where a file stands in a folder's place, or on the way to it."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"A folder is needed where a file is: {place}.")


def picture_names(
    images: list[Path], folder: Path, endings: tuple[str, ...]
) -> list[tuple[Path, ...]]:
    """Where the pictures of each image go, NAME and an ending; images of one name are numbered.

    Raises:
        ValueError: If one of them is itself among the images.
    """
    inputs, taken, names = {path.resolve() for path in images}, set(), []
    for path in images:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name)
        names.append(tuple(folder / f"{name}{ending}" for ending in endings))
        for picture in names[-1]:
            if picture.resolve() in inputs:
                raise ValueError(f"{picture} is an image to read, and would be written over.")
    return names


# Models


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


class Model:
    """A .tflite file that takes RGB images.

    Args:
        path: The file.
        num_threads: Threads of an inference.

    Attributes:
        endings: What follows an image's name in the names of its pictures.
    """

    endings: tuple[str, ...] = ()

    def __init__(self, path: Path, num_threads: int) -> None:
        self.name = path.name
        self.description = description = describe(path)
        try:
            self.interpreter = Interpreter(str(path), num_threads=num_threads)
        except ValueError as error:
            raise ValueError(f"{path} is no whole .tflite file: {error}") from error
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
        self.stretches = preprocessing.get("resize", "crop") == "stretch"
        if not self.stretches:
            scaled = round(preprocessing["short_side"] * side / preprocessing["crop_size"])
            self.short_side = max(side, scaled)
        self.resampling = Image.Resampling[preprocessing["interpolation"].upper()]

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Resizes an image and crops its centre, or stretches all of it.

        Returns:
            `(1, H, W, 3)`, 0..255.
        """
        crop = (self.height, self.width)
        height, width = crop
        if not self.stretches:
            height, width = resized_size(image.height, image.width, self.short_side, crop)
        # Each pixel from its four neighbours, as in training: no smoothing of larger images.
        matrix = (image.width / width, 0, 0, 0, image.height / height, 0)
        image = image.transform((width, height), Image.Transform.AFFINE, matrix, self.resampling)
        left, top = (width - self.width) // 2, (height - self.height) // 2
        image = image.crop((left, top, left + self.width, top + self.height))
        return np.asarray(image)[None].astype(self.entry["dtype"])

    def run(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns the output without its batch and the time in milliseconds."""
        self.interpreter.set_tensor(self.entry["index"], image)
        start = time.perf_counter()
        self.interpreter.invoke()
        milliseconds = 1000.0 * (time.perf_counter() - start)
        return self.interpreter.get_tensor(self.exit["index"])[0], milliseconds


class Classifier(Model):
    """Gives a probability for each class."""

    def answer(self, image: Image.Image, count: int, pictures) -> str:
        probabilities, milliseconds = self.run(self.prepare(image))
        best = np.argsort(-probabilities, kind="stable")[:count]
        names = ", ".join(f"{self.labels[i]} {probabilities[i]:.1%}" for i in best)
        return f"{names} ({milliseconds:.1f} ms)"


class Segmenter(Model):
    """Gives logits of each class for each cell of the image."""

    endings = (".mask.png", ".overlay.jpg")

    def answer(self, image: Image.Image, count: int, pictures: tuple[Path, ...]) -> str:
        logits, milliseconds = self.run(self.prepare(image))
        mask = class_mask(logits, image.height, image.width)
        if pictures:
            write_pictures(mask, image, len(self.labels), *pictures)
        shares = np.bincount(mask.ravel(), minlength=len(self.labels)) / mask.size
        best = [i for i in np.argsort(-shares, kind="stable")[:count] if shares[i]]
        names = ", ".join(f"{self.labels[i]} {shares[i]:.1%}" for i in best)
        return f"{names} ({milliseconds:.1f} ms)"


class Detector(Model):
    """Says for each anchor where a box is and what is in it; or suppresses in the file.

    Attributes:
        score: What a box must be sure of.
        rule: How boxes that lie on each other go, one of `RULES`.
    """

    endings = (".boxes.jpg",)
    score, rule = 0.3, "paper"

    def __init__(self, path: Path, num_threads: int) -> None:
        super().__init__(path, num_threads)
        runner = self.interpreter.get_signature_runner()
        self.exits = {name: exit["index"] for name, exit in runner.get_output_details().items()}
        self.labels = self.description["class_names"]
        # All of an image is looked at.
        self.stretches = True
        self.suppresses = self.description["suppression"] == "in-file"
        self.variance = self.description["decoding"]["variance"]
        self.anchors = make_anchors(self.description["decoding"], self.height, self.width)

    def find(self, image: Image.Image) -> tuple[tuple[np.ndarray, ...], float]:
        """Boxes `(N, 4)`, left, top, right, bottom in pixels, classes and scores; milliseconds."""
        _, milliseconds = self.run(self.prepare(image))
        answers = {name: self.interpreter.get_tensor(i)[0] for name, i in self.exits.items()}
        if not self.suppresses:
            boxes = decode(answers["location"], self.anchors, self.variance)
            boxes, labels, scores = suppress(
                boxes, answers["score"], self.score, **RULES[self.rule]
            )
        else:
            # After the last box there are zeros.
            is_sure = answers["score"] > self.score
            is_sure[int(np.rint(answers["number of detections"])) :] = False
            boxes = answers["location"][is_sure][:, [1, 0, 3, 2]]
            labels = np.rint(answers["category"][is_sure]).astype(int)
            scores = answers["score"][is_sure]
        size = np.array([image.width, image.height] * 2, np.float32)
        return (np.clip(boxes * size, 0.0, size), labels, scores), milliseconds

    def answer(self, image: Image.Image, count: int, pictures: tuple[Path, ...]) -> str:
        (boxes, labels, scores), milliseconds = self.find(image)
        names = [self.labels[label] for label in labels]
        if pictures:
            write_boxes(image, boxes, labels, names, scores, *pictures)
        found = [
            {
                "class": name,
                "score": round(float(score), 4),
                **{
                    side: round(float(place), 1)
                    for side, place in zip(("left", "top", "right", "bottom"), box, strict=True)
                },
            }
            for box, name, score in zip(boxes, names, scores, strict=True)
        ]
        return f"{json.dumps(found, ensure_ascii=False)} ({milliseconds:.1f} ms)"


MODELS = {"classification": Classifier, "detection": Detector, "segmentation": Segmenter}


def open_model(path: Path, num_threads: int) -> Model:
    """Opens a .tflite file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or made for something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {path}.")
    task = describe(path).get("task", "classification")
    if task not in MODELS:
        raise ValueError(f"A model for {' or '.join(MODELS)} is needed. {path} is for {task}.")
    return MODELS[task](path, num_threads)


# Boxes

RULES = {
    "paper": {"iou_threshold": 0.5, "per_class": True},
    "mediapipe": {"iou_threshold": 0.3, "per_class": False},
}
MAXIMUM = 200


def make_anchors(decoding: dict, height: int, width: int) -> np.ndarray:
    """The anchors `(A, 4)`: middle's x and y, width and height, in sides of the image.

    Args:
        decoding: What the file says of them.
        height, width: Of the image that the file takes.
    """
    sizes = [(-(-height // stride), -(-width // stride)) for stride in decoding["strides"]]
    sizes.append((1, 1))
    scales = np.linspace(decoding["min_scale"], decoding["max_scale"], len(sizes) + 1)
    levels = []
    for level, ((rows, columns), ratios) in enumerate(
        zip(sizes, decoding["aspect_ratios"], strict=True)
    ):
        scale, following = scales[level : level + 2]
        shapes = [(scale, scale), ((scale * following) ** 0.5,) * 2]
        for ratio in ratios:
            root = ratio**0.5
            shapes += [(scale * root, scale / root), (scale / root, scale * root)]
        anchors = np.empty((rows, columns, len(shapes), 4))
        anchors[..., 0] = ((np.arange(columns) + 0.5) / columns)[None, :, None]
        anchors[..., 1] = ((np.arange(rows) + 0.5) / rows)[:, None, None]
        # No longer than the image is; the middles stay where they are.
        anchors[..., 2:] = np.clip(shapes, 0.0, 1.0)
        levels.append(anchors.reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def decode(location: np.ndarray, anchors: np.ndarray, variance: list[float]) -> np.ndarray:
    """Boxes `(A, 4)`, left, top, right, bottom in sides of the image.

    Args:
        location: `(A, 4)`: middle's y and x, height and width, relative to the anchors.
        anchors: `(A, 4)`: middle's x and y, width and height.
        variance: The units of the location's four numbers.
    """
    offsets = location * np.array(variance, np.float32)
    middle = offsets[:, [1, 0]] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(offsets[:, [3, 2]]) * anchors[:, 2:] * 0.5
    return np.concatenate([middle - half, middle + half], axis=1)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, score: float, iou_threshold: float, per_class: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of boxes that lie on each other only the surest stays.

    Args:
        boxes: `(A, 4)`.
        scores: `(A, K)`.
        score: What a score must be above.
        iou_threshold: Intersection over union above which the less sure box goes.
        per_class: Whether each class is taken by itself; else a box is of its surest class only.

    Returns:
        Boxes, classes and scores, the surest first.
    """
    if per_class:
        rows, labels = np.nonzero(scores > score)
    else:
        labels = scores.argmax(axis=1)
        rows = np.flatnonzero(scores.max(axis=1) > score)
        labels = labels[rows]
    boxes, scores = boxes[rows], scores[rows, labels]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    waiting, stays = np.argsort(-scores, kind="stable"), []
    counts = np.zeros(labels.max(initial=0) + 1, int)
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        group = labels[best] if per_class else 0
        counts[group] += 1
        stays.append(best)
        corners = np.maximum(boxes[waiting, :2], boxes[best, :2])
        sides = np.maximum(np.minimum(boxes[waiting, 2:], boxes[best, 2:]) - corners, 0.0)
        shared = sides[:, 0] * sides[:, 1]
        goes = shared > iou_threshold * (areas[waiting] + areas[best] - shared)
        # Of each class, or of all taken together, so many stay.
        goes |= counts[group] >= MAXIMUM
        if per_class:
            goes &= labels[waiting] == labels[best]
        waiting = waiting[~goes]
    return boxes[stays], labels[stays], scores[stays]


def write_boxes(
    image: Image.Image,
    boxes: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    scores: np.ndarray,
    file: Path,
) -> None:
    """Writes the image with the boxes, their classes and scores."""
    picture = image.copy()
    draw = ImageDraw.Draw(picture)
    # The first colour is black.
    colours = palette(256)[1:]
    line = max(1, round(min(image.size) / 300))
    font = ImageFont.load_default(12 * line)
    for box, label, name, score in zip(boxes, labels, names, scores, strict=True):
        colour = tuple(int(part) for part in colours[label % len(colours)])
        left, top, right, bottom = (int(side) for side in np.rint(box))
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        place, text = (left + 1 + line, top + line), f"{name} {100 * score:.0f}%"
        draw.rectangle(draw.textbbox(place, text, font), fill=colour)
        draw.text(place, text, fill="white", font=font)
    with whole(file) as temporary:
        picture.save(temporary, quality=90)


# Masks


def class_mask(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """The class of every pixel: whose logit is the largest, enlarged bilinearly to the image.

    Args:
        logits: `(h, w, K)`.
        height, width: The image's.

    Returns:
        uint8 `(height, width)`. Of equal logits the first class's number.
    """
    rows, columns = enlarging(height, logits.shape[0]), enlarging(width, logits.shape[1])
    # (h, w, K) -> (K, h, width)
    planes = np.moveaxis(logits.astype(np.float32), -1, 0) @ columns.T
    mask = np.zeros((height, width), np.uint8)
    # By bands of rows and class by class, in the same memory throughout: all logits of a large
    # photograph would fill a board's, and new memory for each takes longer than the sums.
    band_height = min(height, 256)
    best, values = (np.empty((band_height, width), np.float32) for _ in range(2))
    is_larger = np.empty((band_height, width), bool)
    for top in range(0, height, band_height):
        band, part = rows[top : top + band_height], mask[top : top + band_height]
        size = len(band)
        np.matmul(band, planes[0], out=best[:size])
        for number in range(1, len(planes)):
            np.matmul(band, planes[number], out=values[:size])
            np.greater(values[:size], best[:size], out=is_larger[:size])
            np.copyto(best[:size], values[:size], where=is_larger[:size])
            np.copyto(part, np.uint8(number), where=is_larger[:size])
    return mask


def enlarging(length: int, cells: int) -> np.ndarray:
    """How much each cell counts in each pixel of a row, by half-pixel centres: (length, cells)."""
    centres = np.clip((np.arange(length) + 0.5) * cells / length - 0.5, 0, cells - 1)
    before = centres.astype(int)
    weights, pixels = np.zeros((length, cells), np.float32), np.arange(length)
    weights[pixels, np.minimum(before + 1, cells - 1)] = centres - before
    weights[pixels, before] = 1.0 - (centres - before)
    return weights


def palette(count: int) -> np.ndarray:
    """PASCAL VOC's colours, in which three bits of a class's number become one bit of each."""
    numbers, colours = np.arange(count), np.zeros((count, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype("u1")
    return colours


def write_pictures(
    mask: np.ndarray, image: Image.Image, num_classes: int, mask_file: Path, overlay_file: Path
) -> None:
    """Writes the class numbers with a palette, and the image with their colours laid over it."""
    colours = palette(num_classes)
    picture = Image.fromarray(mask)
    picture.putpalette(colours.tobytes())
    with whole(mask_file) as temporary:
        picture.save(temporary)
    with whole(overlay_file) as temporary:
        Image.blend(image, picture.convert("RGB"), 0.5).save(temporary, quality=90)


# What is printed


def print_answers(models: list[Model], images: list[Path], count: int, output: Path | None) -> int:
    """Prints what the models say of each image; returns how many could not be read."""
    unreadable = 0
    pictures = {
        model.name: picture_names(
            images, output if len(models) == 1 else output / model.name, model.endings
        )
        if output
        else [()] * len(images)
        for model in models
    }
    for number, path in enumerate(images):
        try:
            image = read_image(path)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            unreadable += 1
            continue
        print(path)
        for model in models:
            print(f"  {model.name}: {model.answer(image, count, pictures[model.name][number])}")
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


def print_table(classifiers: list[Model], images: list[tuple[Path, str]]) -> None:
    """Prints time and accuracy of each model."""
    for model in classifiers:
        if not isinstance(model, Classifier):
            raise ValueError(f"A table is of classifiers. {model.name} is none.")
    print(f"{'model':32} {'images':>6} {'ms/image':>9} {'top-1':>7} {'top-5':>7}")
    for classifier in classifiers:
        indices = {name: index for index, name in enumerate(classifier.labels)}
        known = [(path, indices[name]) for path, name in images if name in indices]
        if not known:
            # A model of other classes, taken along for its time.
            known = [(path, -1) for path, _ in images]
        classifier.run(classifier.prepare(read_image(known[0][0])))
        times, firsts, fives = [], 0, 0
        for path, label in known:
            probabilities, milliseconds = classifier.run(classifier.prepare(read_image(path)))
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
    parser.add_argument("--output", type=Path, help="a folder for pictures of masks and boxes")
    parser.add_argument("--score", type=float, default=0.3, help="of a box at least (default: 0.3)")
    parser.add_argument(
        "--rule",
        choices=RULES,
        default="paper",
        help="how boxes that lie on each other go: in each class by itself (paper, the default), "
        "or whatever their classes",
    )
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: 5)")
    options = parser.parse_args(arguments)
    paths = [path for path in options.files if path.suffix == ".tflite"]
    images = [path for path in options.files if path.suffix != ".tflite"]
    if not paths or bool(images) == bool(options.folder):
        parser.error("a .tflite file is needed, and either image files or --folder")
    if not 0.0 <= options.score < 1.0:
        parser.error(f"--score must be at least 0 and below 1, not {options.score}")
    try:
        if options.output:
            check_folder(options.output)
        models = [open_model(path, options.threads) for path in paths]
        for model in models:
            if isinstance(model, Detector):
                model.score, model.rule = options.score, options.rule
        if options.folder:
            print_table(models, labelled_images(options.folder))
            return 0
        return 2 if print_answers(models, images, options.top, options.output) else 0
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
