"""Detectors in a real Chromium: the boxes are Keras's, and lie where the objects lie."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert.server import serving
from convert.site import build_site
from mobilevit_keras.boxes import overlaps
from mobilevit_keras.palette import class_colours
from tests.run.browser_page import RUNTIMES, data_url
from tests.run.test_browser_dense import choose, open_page, set_level
from tests.run.test_browser_pages import assert_accessible
from tests.tiny import load_tiny_detector, object_images

pytestmark = [pytest.mark.tfjs, pytest.mark.slow]

NAMES = ("red", "green", "blue")
SIZE = (64, 128)
LEAST, SURE = 0.1, 0.2


@dataclasses.dataclass(frozen=True)
class Detecting:
    """A site with a detector, and what Keras finds in its samples.

    Attributes:
        site: The site's folder.
        samples: The image files that the page offers.
        found: What `detect_images` gives of each of them, from `LEAST` on.
        in_file: A file of the same detector that suppresses boxes itself.
    """

    site: Path
    samples: list[Path]
    found: list
    in_file: Path

    def model(self, file_format: str) -> str:
        pattern = {"tflite": "model.tflite", "tfjs": "tfjs/model.json"}[file_format]
        (path,) = self.site.glob(f"models/*/{pattern}")
        return f"/{path.relative_to(self.site).as_posix()}"


@pytest.fixture(scope="module")
def detecting(tmp_path_factory) -> Detecting:
    from mobilevit_keras.export import export_tfjs, export_tflite
    from mobilevit_keras.inference import detect_images

    folder = tmp_path_factory.mktemp("detecting")
    run = folder / "run"
    (run / "samples").mkdir(parents=True)
    model = load_tiny_detector(
        class_names=NAMES, preprocessing={"resize": "stretch", "crop_size": SIZE}
    )
    images, _ = object_images(4, *SIZE)
    export_tflite(model, run / "model.tflite", SIZE, images=images)
    export_tfjs(model, run / "tfjs", SIZE, images=images)
    in_file = folder / "in_file.tflite"
    export_tflite(model, in_file, SIZE, images=images, suppression="in-file")
    samples = [run / "samples" / f"{number}.png" for number in range(3)]
    for seed, (path, shape) in enumerate(
        zip(samples, ((128, 256), (96, 128), (192, 256)), strict=True)
    ):
        (pixels,), _ = object_images(1, *shape, seed=seed + 1)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    found = detect_images(model, samples, score_threshold=LEAST)
    assert all((answer.scores > SURE).any() for answer in found)
    return Detecting(build_site([run], folder / "site"), samples, found, in_file)


@pytest.fixture(scope="module")
def detecting_url(detecting) -> Iterator[str]:
    with serving(detecting.site) as url:
        yield url


@pytest.fixture
def page(browser, detecting_url, page_errors) -> Iterator:
    with open_page(browser, detecting_url, page_errors) as page:
        yield page


def assert_matched(some, others) -> None:
    """Everything that the first are sure of is among the others, in its place."""
    for box, label, score in zip(*some, strict=True):
        if score <= SURE:
            continue
        same = (overlaps(box[None], others[0])[0] >= 0.95) & (others[1] == label)
        assert same.any(), f"{box} {label} {score}"
        assert np.abs(others[2][same] - score).min() < 1e-2


def assert_same_objects(objects: list[dict], answer) -> None:
    boxes = np.array([found["box"] for found in objects], np.float32).reshape(-1, 4)
    labels = np.array([found["index"] for found in objects])
    scores = np.array([found["score"] for found in objects])
    ours, theirs = (boxes, labels, scores), (answer.boxes, answer.labels, answer.scores)
    assert_matched(ours, theirs)
    assert_matched(theirs, ours)
    assert (np.diff(scores) <= 0).all()
    assert [found["label"] for found in objects] == [NAMES[label] for label in labels]


_DETECT = """async ([address, runtime, images, least]) => {
  const { load } = await import("/infer.js");
  const blobOf = async (url) => await (await fetch(url)).blob();
  const source = address.startsWith("data:") ? await blobOf(address) : address;
  const model = await load(source, { runtime });
  const answers = [];
  for (const image of images) answers.push(await model.detect(await blobOf(image), least));
  return [`${model.task} ${model.runtime}`, answers];
}"""


@pytest.mark.parametrize(
    "runtime",
    [
        # Drawn in software.
        pytest.param(name, marks=pytest.mark.slow) if name.endswith("webgpu") else name
        for name in RUNTIMES
    ],
)
def test_every_runtime_finds_what_keras_finds(page, detecting, runtime):
    page.goto("/models.json")
    urls = [data_url(path.read_bytes()) for path in detecting.samples]
    model = detecting.model("tflite" if runtime.startswith("litert") else "tfjs")
    ran, answers = page.evaluate(_DETECT, [model, runtime, urls, LEAST])
    assert ran == f"detection {runtime}"
    for answer, wanted in zip(answers, detecting.found, strict=True):
        assert (answer["height"], answer["width"]) == wanted.size
        assert_same_objects(answer["objects"], wanted)


def test_a_file_that_suppresses_by_itself(page, detecting):
    page.goto("/models.json")
    urls = [data_url(path.read_bytes()) for path in detecting.samples]
    model = data_url(detecting.in_file.read_bytes(), "application/octet-stream")
    _, answers = page.evaluate(_DETECT, [model, "litert-wasm", urls, LEAST])
    for answer, wanted in zip(answers, detecting.found, strict=True):
        assert_same_objects(answer["objects"], wanted)


def counts(page) -> dict[str, int]:
    """How many objects of each class the legend says."""
    rows = page.locator(".result .class").evaluate_all(
        "rows => rows.map((row) => [row.querySelector('.name'), row.querySelector('.share')]"
        ".map((part) => part.textContent))"
    )
    return {name: int(value.split(" ×")[0]) if "×" in value else 1 for name, value in rows}


def outlined(page, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The colours in the middles of a box's four sides, as the screen shows them, `(4, 4)`."""
    left, top, right, bottom = (float(side) for side in box)
    pixels = page.evaluate(
        """([left, top, right, bottom, height, width]) => {
          const canvas = document.getElementById("boxes");
          const scale = Math.min(canvas.width / width, canvas.height / height);
          const x = (at) => (canvas.width - width * scale) / 2 + at * scale;
          const y = (at) => (canvas.height - height * scale) / 2 + at * scale;
          const [across, down] = [(x(left) + x(right)) / 2, (y(top) + y(bottom)) / 2];
          // The line is two pixels wide and lies inside of the box.
          const places = [
            [x(left) + 1, down], [across, y(top) + 1],
            [x(right) - 1, down], [across, y(bottom) - 1],
          ];
          const context = canvas.getContext("2d");
          return places.map(([at, row]) =>
            Array.from(context.getImageData(Math.floor(at), Math.floor(row), 1, 1).data));
        }""",
        [left, top, right, bottom, *size],
    )
    return np.array(pixels)


def test_boxes_threshold_and_classes_switched_off(page, detecting):
    page.goto("/")
    answer = detecting.found[0]
    choose(page, 0)
    for percent in (12, 60):
        set_level(page, percent)
        sure = answer.labels[answer.scores >= percent / 100]
        wanted = {NAMES[label]: int(np.sum(sure == label)) for label in set(sure.tolist())}
        assert counts(page) == wanted
    # The surest lies on top of all others: the whole of its outline is seen, in its colour.
    box, label = answer.boxes[0], int(answer.labels[0])
    colours = outlined(page, box, answer.size)
    seen = (np.abs(colours[:, :3] - class_colours()[1 + label]).max(-1) <= 2).sum()
    assert seen >= 3, colours
    page.locator(".result .class", has_text=NAMES[label]).locator("button").click()
    colours = outlined(page, box, answer.size)
    assert not (np.abs(colours[:, :3] - class_colours()[1 + label]).max(-1) <= 2).any()
    set_level(page, 100)
    assert "100\xa0%" in page.locator(".result .nothing").inner_text()


def test_accessibility_and_live_video(page, tmp_path):
    page.goto("/")
    choose(page, 0)
    assert_accessible(page, tmp_path / "detection")
    page.click("#live")
    page.locator("#rate", has_text="frames/s").wait_for()
    page.locator("#boxes").wait_for()
    page.click("#stop")
    assert not page.locator("#rate").is_visible()
    page.locator("#predict:enabled").wait_for()
