"""A classifier's heat map in a real Chromium: it is Keras's, and lies where the picture lies."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert.server import serving
from convert.site import build_site
from mobilevit_keras.inference import ExplainedImage
from tests.run.browser_page import RUNTIMES, data_url
from tests.run.test_browser_dense import choose, drawn, open_page, set_level
from tests.run.test_browser_pages import assert_accessible
from tests.tiny import coloured_images, load_tiny

pytestmark = [pytest.mark.tfjs, pytest.mark.slow]

NAMES = ("red", "green", "blue")
SIZE = 96
# What is darkened, where the model does not look.
UNSEEN = 219


@dataclasses.dataclass(frozen=True)
class Explained:
    """A site with a classifier that has a heat map, and one without.

    Attributes:
        site: The site's folder.
        model: The Keras classifier.
        samples: The image files that the page offers.
        answers: What Keras says of them.
    """

    site: Path
    model: object
    samples: list[Path]
    answers: list[ExplainedImage]

    def file(self, file_format: str) -> str:
        pattern = {"tflite": "heat.tflite", "tfjs": "model.json"}[file_format]
        (path,) = self.site.glob(f"models/*/**/{pattern}")
        return f"/{path.relative_to(self.site).as_posix()}"


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> Explained:
    from mobilevit_keras.export import export_tfjs, export_tflite
    from mobilevit_keras.inference import explain_images

    run = tmp_path_factory.mktemp("heat") / "run"
    (run / "samples").mkdir(parents=True)
    model = load_tiny(class_names=NAMES, preprocessing={"short_side": 108, "crop_size": SIZE})
    images = coloured_images(8, SIZE)
    export_tflite(model, run / "heat.tflite", SIZE, images=images, heat_map=True)
    export_tflite(model, run / "plain.tflite", SIZE, images=images)
    export_tfjs(model, run / "tfjs", SIZE, images=images, heat_map=True)
    samples = []
    for seed, shape in enumerate(((180, 131), (97, 260), (120, 120))):
        (pixels,) = coloured_images(1, *shape, seed=seed)
        # Another colour in one half of each.
        pixels[:, shape[1] // 2 :] = 255.0 - pixels[:, shape[1] // 2 :]
        samples.append(run / f"samples/{seed}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(samples[-1])
    answers = explain_images(model, samples, attention=False)
    return Explained(build_site([run], run.parent / "site"), model, samples, answers)


@pytest.fixture(scope="module")
def heat_url(explained) -> Iterator[str]:
    with serving(explained.site) as url:
        yield url


@pytest.fixture
def page(browser, heat_url, page_errors) -> Iterator:
    with open_page(browser, heat_url, page_errors) as page:
        yield page


def opacity_of(heat: np.ndarray) -> np.ndarray:
    """What the page's canvas should have of Python's heat: more where there is more."""
    return np.where(np.isnan(heat), UNSEEN, 255.0 * np.nan_to_num(heat))


def toggle(page) -> None:
    page.locator("#control button").click()


def choose_model(page, name: str) -> None:
    """Leaves the models whose name has these letters selected, and waits for their answers."""
    for label in page.locator("#models label").all():
        label.locator("input").set_checked(name in label.inner_text())
    page.locator("#predict:enabled").wait_for()


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if not name.endswith("webgpu")])
def test_every_runtime_gives_keras_heat_maps(page, explained, runtime):
    page.goto("/models.json")
    urls = [data_url(path.read_bytes()) for path in explained.samples]
    ran, answers = page.evaluate(
        """async ([address, runtime, images]) => {
          const { load } = await import("/infer.js");
          const model = await load(address, { runtime });
          const answers = [];
          for (const image of images) {
            const found = await model.explain(await (await fetch(image)).blob());
            const { scores, ...map } = found.heatMap;
            answers.push({ ...found, heatMap: { ...map, scores: Array.from(scores) } });
          }
          return [model.runtime, answers];
        }""",
        [explained.file("tflite" if runtime.startswith("litert") else "tfjs"), runtime, urls],
    )
    assert ran == runtime
    for answer, wanted in zip(answers, explained.answers, strict=True):
        found = answer["heatMap"]
        assert (*found["cells"], found["count"]) == wanted.heat_map.shape == (3, 3, 3)
        assert tuple(found["image"]) == wanted.size
        scores = np.reshape(found["scores"], wanted.heat_map.shape)
        # A byte of a pixel may be another after the browser's decoding.
        np.testing.assert_allclose(scores, wanted.heat_map, atol=0.02 * wanted.heat_map.std())
        top, left, height, width = wanted.geometry.window.numpy()
        expected = (left, top, left + width, top + height)
        np.testing.assert_allclose(found["window"], expected, atol=1e-3)
        first = answer["predictions"][0]
        assert first["label"] == NAMES[wanted.probabilities.argmax()]
        assert first["probability"] == pytest.approx(wanted.probabilities.max(), abs=1e-3)


def test_it_is_shown_where_it_is_asked_for(page, explained):
    page.goto("/")
    choose(page, 0)
    choose_model(page, "heat")
    # Off by default, and offered.
    assert not page.locator("#mask").is_visible() and not page.locator("#save").is_visible()
    assert page.locator("#control button").get_attribute("aria-pressed") == "false"
    assert page.locator("#level").is_disabled()
    toggle(page)
    assert page.locator("#save").is_visible()
    for number, answer in enumerate(explained.answers):
        choose(page, number)
        found = drawn(page)[..., 3].astype(float)
        assert found.shape == answer.size
        assert np.abs(found - opacity_of(answer.heat())).max() < 4
    # Another class, without another run of the model, and the slider.
    answer = explained.answers[-1]
    order = np.argsort(-answer.probabilities)
    page.evaluate("document.querySelector('.result .times').dataset.marked = ''")
    page.get_by_role("button", name=NAMES[order[1]], exact=True).click()
    other = dataclasses.replace(answer, chosen=int(order[1]))
    assert np.abs(drawn(page)[..., 3] - opacity_of(other.heat())).max() < 4
    assert np.abs(opacity_of(other.heat()) - opacity_of(answer.heat())).max() > 50
    pressed = page.locator('.result .class button[aria-pressed="true"]').all_inner_texts()
    assert pressed == [NAMES[order[1]]]
    assert page.locator("#answer").inner_text().startswith(NAMES[order[1]])
    set_level(page, 40)
    assert page.locator("#mask").evaluate("mask => mask.style.opacity") == "0.4"
    toggle(page)
    assert not page.locator("#mask").is_visible()
    assert page.locator(".result .class button").count() == 0


def test_a_file_without_offers_none(page):
    page.goto("/")
    choose(page, 0)
    choose_model(page, "plain")
    assert not page.locator("#control").is_visible()
    assert page.locator(".result .class").count() == 3


def test_live_video(page):
    page.goto("/")
    choose_model_first = page.locator("#models label", has_text="heat")
    choose_model_first.locator("input").check()
    page.locator("#models label", has_text="plain").locator("input").uncheck()
    page.click("#live")
    page.locator("#rate", has_text="frames/s").wait_for()
    # The video itself, until a heat map is wanted; then the frame that it was found in.
    assert page.locator("#video").is_visible() and not page.locator("#preview").is_visible()
    toggle(page)
    page.locator("#mask").wait_for()
    assert page.locator("#preview").is_visible()
    sizes = page.evaluate(
        """["preview", "mask"].map((id) => {
          const { width, height } = document.getElementById(id);
          return [width, height];
        })"""
    )
    assert sizes[0] == sizes[1]
    # A class can be pressed while frames come.
    page.locator(".result .class button").last.click()
    toggle(page)
    page.locator("#preview").wait_for(state="hidden")
    assert not page.locator("#mask").is_visible()
    page.click("#stop")


def test_accessibility_and_small_screens(page, tmp_path):
    page.goto("/")
    choose(page, 0)
    choose_model(page, "heat")
    toggle(page)
    assert_accessible(page, tmp_path / "heat")
