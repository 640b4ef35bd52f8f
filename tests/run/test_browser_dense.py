"""The dense tasks in a real Chromium: masks are Keras's, and lie where the picture lies."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from convert.server import serving
from convert.site import build_site
from mobilevit_keras.palette import class_colours, overlay
from tests.run.browser_page import RUNTIMES, data_url
from tests.run.test_browser_pages import assert_accessible
from tests.tiny import load_tiny_segmenter, patched_images

pytestmark = [pytest.mark.tfjs, pytest.mark.slow]

NAMES = ("red", "green", "blue")
SIZE = (64, 96)


@dataclasses.dataclass(frozen=True)
class Dense:
    """A site with a segmenter, and what Keras says of its samples.

    Attributes:
        site: The site's folder.
        samples: The image files that the page offers.
        masks: The class of every pixel of each of them.
    """

    site: Path
    samples: list[Path]
    masks: list[np.ndarray]

    def model(self, file_format: str) -> str:
        pattern = {"tflite": "model.tflite", "tfjs": "tfjs/model.json"}[file_format]
        (path,) = self.site.glob(f"models/*/{pattern}")
        return f"/{path.relative_to(self.site).as_posix()}"


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Dense:
    from mobilevit_keras.export import export_tfjs, export_tflite
    from mobilevit_keras.inference import segment_images

    run = tmp_path_factory.mktemp("dense") / "run"
    (run / "samples").mkdir(parents=True)
    model = load_tiny_segmenter(
        class_names=NAMES, preprocessing={"resize": "stretch", "crop_size": SIZE}
    )
    images, _ = patched_images(4, *SIZE)
    export_tflite(model, run / "model.tflite", SIZE, images=images)
    export_tfjs(model, run / "tfjs", SIZE, images=images)
    # Upright, across, and one that is stored lying down.
    shapes = ((180, 131), (97, 260), (120, 200))
    samples = [run / "samples" / name for name in ("0.png", "1.png", "2.jpg")]
    for seed, (path, shape) in enumerate(zip(samples, shapes, strict=True)):
        (pixels,), _ = patched_images(1, *shape, seed=seed)
        exif = Image.Exif()
        exif[0x0112] = 6 if path.suffix == ".jpg" else 1
        Image.fromarray(pixels.astype(np.uint8)).save(path, exif=exif)
    masks = [answer.mask for answer in segment_images(model, samples)]
    return Dense(build_site([run], run.parent / "site"), samples, masks)


@pytest.fixture(scope="module")
def dense_url(dense) -> Iterator[str]:
    with serving(dense.site) as url:
        yield url


@contextmanager
def open_page(browser, url: str, page_errors: list[str]) -> Iterator:
    """Opens a page with a cache of its own."""
    context = browser.new_context(base_url=url, viewport={"width": 1200, "height": 900})
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("pageerror", lambda error: page_errors.append(str(error)))
    yield page
    context.close()


@pytest.fixture
def page(browser, dense_url, page_errors) -> Iterator:
    with open_page(browser, dense_url, page_errors) as page:
        yield page


def read_image(path: Path) -> np.ndarray:
    """An image's pixels, upright."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def choose(page, sample: int) -> None:
    page.locator("#samples button").nth(sample).click()
    page.locator(f"#samples li:nth-child({sample + 1}) button[aria-pressed=true]").wait_for()
    page.locator("#predict:enabled").wait_for()


def drawn(page) -> np.ndarray:
    """The mask's own pixels, `(H, W, 4)`."""
    width, height, pixels = page.evaluate(
        """() => {
          const mask = document.getElementById("mask");
          const { data } = mask.getContext("2d").getImageData(0, 0, mask.width, mask.height);
          return [mask.width, mask.height, Array.from(data)];
        }"""
    )
    return np.array(pixels, np.uint8).reshape(height, width, 4)


def set_level(page, percent: int) -> None:
    page.locator("#level").fill(str(percent))


@pytest.mark.parametrize(
    "runtime",
    [
        # Drawn in software.
        pytest.param(name, marks=pytest.mark.slow) if name.endswith("webgpu") else name
        for name in RUNTIMES
    ],
)
def test_every_runtime_gives_keras_masks(page, dense, runtime):
    page.goto("/models.json")
    urls = [
        data_url(path.read_bytes(), f"image/{path.suffix[1:].replace('jpg', 'jpeg')}")
        for path in dense.samples
    ]
    ran, answers = page.evaluate(
        """async ([address, runtime, images]) => {
          const { load } = await import("/infer.js");
          const model = await load(address, { runtime });
          const answers = [];
          for (const image of images) {
            const found = await model.segment(await (await fetch(image)).blob());
            answers.push({ ...found, mask: Array.from(found.mask) });
          }
          return [`${model.task} ${model.runtime}`, answers];
        }""",
        [dense.model("tflite" if runtime.startswith("litert") else "tfjs"), runtime, urls],
    )
    assert ran == f"segmentation {runtime}"
    for answer, wanted in zip(answers, dense.masks, strict=True):
        assert (answer["height"], answer["width"]) == wanted.shape
        mask = np.array(answer["mask"]).reshape(wanted.shape)
        assert np.mean(mask == wanted) > 0.99
        counts = np.bincount(mask.ravel(), minlength=len(NAMES)) / mask.size
        shares = {row["label"]: row["share"] for row in answer["classes"]}
        assert shares == {NAMES[i]: pytest.approx(counts[i]) for i in np.flatnonzero(counts)}
        assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_colours_legend_opacity_and_classes_switched_off(page, dense):
    page.goto("/")
    choose(page, 0)
    wanted = dense.masks[0]
    found = drawn(page)
    assert found.shape[:2] == wanted.shape
    colours = class_colours()
    assert np.mean((found[..., :3] == colours[wanted]).all(-1)) > 0.99
    assert (found[..., 3] == 255).all()
    shares = np.bincount(wanted.ravel(), minlength=3) / wanted.size
    order = [NAMES[i] for i in np.argsort(-shares) if shares[i]]
    assert page.locator(".result .class .name").all_inner_texts() == order
    first = page.locator(".result .class").first
    assert float(first.get_attribute("data-share")) == pytest.approx(shares.max(), abs=0.01)
    assert order[0] in page.locator("#announcement").inner_text()
    assert page.locator("#answer .chip").all_inner_texts() == order
    # The slider and the legend change what is drawn, not what was found: the model runs once.
    page.evaluate("document.querySelector('.result .times').dataset.marked = ''")
    set_level(page, 20)
    assert page.locator("#mask").evaluate("mask => mask.style.opacity") == "0.2"
    first.locator("button").click()
    page.locator('.result .class button[aria-pressed="false"]').wait_for()
    hidden = drawn(page)[..., 3] == 0
    assert np.mean(hidden == (wanted == NAMES.index(order[0]))) > 0.99
    assert page.locator("#answer .chip").all_inner_texts() == order[1:]
    # It stays so for the next picture, and the slider where it is.
    choose(page, 1)
    assert (drawn(page)[..., 3] == 0).any()
    assert page.locator("#level").input_value() == "20"


def test_the_picture_can_be_saved_with_its_colours(page, dense, tmp_path):
    page.goto("/")
    choose(page, 2)
    set_level(page, 60)
    with page.expect_download() as saved:
        page.click("#save")
    saved.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png") as picture:
        found = np.asarray(picture.convert("RGB"))
    pixels = read_image(dense.samples[2])
    wanted = overlay(pixels, dense.masks[2], 0.6)
    assert found.shape == wanted.shape
    assert np.mean(np.abs(found.astype(int) - wanted).max(-1) <= 3) > 0.98
    page.click("#copy")
    page.locator("#message", has_text="Copied").wait_for()


@pytest.mark.parametrize(("sample", "density"), [(0, 1), (1, 1.5), (2, 2)])
def test_the_mask_lies_on_the_picture_to_the_pixel(browser, dense, dense_url, sample, density):
    context = browser.new_context(
        base_url=dense_url, viewport={"width": 500, "height": 900}, device_scale_factor=density
    )
    page = context.new_page()
    page.goto("/")
    choose(page, sample)
    set_level(page, 100)
    page.evaluate(
        """() => {
          document.getElementById("answer").style.visibility = "hidden";
          document.getElementById("stage").style.borderRadius = "0";
        }"""
    )
    page.locator("#stage").screenshot(path=dense.site.parent / "stage.png")
    with Image.open(dense.site.parent / "stage.png") as picture:
        shot = np.asarray(picture.convert("RGB"))
    height, width = dense.masks[sample].shape
    # As `object-fit: contain` lays a picture inside of the stage's border.
    border = density
    inside = np.array(shot.shape[:2]) - 2 * border
    scale = min(inside[0] / height, inside[1] / width)
    top, left = border + (inside - scale * np.array([height, width])) / 2
    rows = ((np.arange(shot.shape[0]) + 0.5 - top) // scale).astype(int)
    columns = ((np.arange(shot.shape[1]) + 0.5 - left) // scale).astype(int)
    rows_in, columns_in = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    seen = shot[rows_in][:, columns_in]
    mask = dense.masks[sample][rows[rows_in]][:, columns[columns_in]]
    # What is next to an edge is mixed by the screen's own scaling.
    is_edge = np.zeros(mask.shape, bool)
    reach = int(np.ceil(scale)) + 1
    for axis in (0, 1):
        for step in range(-reach, reach + 1):
            is_edge |= np.roll(mask, step, axis) != mask
    is_edge[:2] = is_edge[-2:] = is_edge[:, :2] = is_edge[:, -2:] = True
    assert 0.2 < np.mean(~is_edge)
    same = np.abs(seen.astype(int) - class_colours()[mask]).max(-1) <= 8
    assert np.mean(same[~is_edge]) > 0.995
    context.close()


def test_live_video_mirrored(page):
    """The mask is of the frame that is shown with it, and both are mirrored."""
    page.add_init_script(
        """const original = MediaStreamTrack.prototype.getSettings;
        MediaStreamTrack.prototype.getSettings = function () {
          return { ...original.call(this), facingMode: "user" };
        };"""
    )
    page.goto("/")
    page.click("#live")
    page.locator("#rate", has_text="frames/s").wait_for()
    page.locator("#mask").wait_for()
    page.locator(".result .class").first.wait_for()
    transforms = page.evaluate(
        """["preview", "mask"].map((id) => {
          const { width, height } = document.getElementById(id);
          return [width, height, getComputedStyle(document.getElementById(id)).transform];
        })"""
    )
    assert transforms[0] == transforms[1]
    assert transforms[0][2] == "matrix(-1, 0, 0, 1, 0, 0)"
    # A button of the legend can be pressed while frames come.
    button = page.locator(".result .class button").first
    handle = button.element_handle()
    button.click()
    page.wait_for_timeout(500)
    assert handle.evaluate("button => button.isConnected")
    # Nothing of it stays beside an empty stage, or beside another picture.
    page.click("#stop")
    assert not page.locator("#mask").is_visible()
    assert not page.locator("#preview").is_visible()
    assert page.locator(".result").count() == 0


def test_accessibility_and_small_screens(page, tmp_path):
    page.goto("/")
    choose(page, 0)
    page.locator(".result .class button").first.click()
    for summary in page.locator("summary").all():
        summary.click()
    assert_accessible(page, tmp_path / "dense")


def test_many_photos_at_once_are_for_classifiers(page, dense):
    page.goto("/")
    page.locator("#status", has_text="Runs on").wait_for()
    assert "models that say what a photo shows" in page.locator("#folder-hint").inner_text()
    assert not page.locator("#folder-choice").is_visible()
    # Dropped ones are refused with the same words, and the page goes on.
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          for (const name of "ab") data.items.add(new File(["x"], `${name}.png`));
          const options = { dataTransfer: data, bubbles: true, cancelable: true };
          document.body.dispatchEvent(new DragEvent("drop", options));
        }"""
    )
    page.locator("#error", has_text="models that say what a photo shows").wait_for()
    choose(page, 0)
    assert page.locator("#mask").is_visible()
