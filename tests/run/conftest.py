"""One trained-looking model, one site and one browser for all the browser tests."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert.server import serving
from convert.site import build_site
from tests.run.chromium import start_chromium

SIZE, SHORT_SIDE = 64, 72
OTHER_HOST = "another-device.test"
CLASS_NAMES = tuple("zero one two three four five six seven eight nine".split())


@dataclasses.dataclass(frozen=True)
class Exported:
    """A run folder and what Keras says about its images.

    Attributes:
        run_dir: Exports, samples and `photos/`.
        site: The site built from it.
        model: The Keras classifier.
    """

    run_dir: Path
    site: Path
    model: object

    def keras_probabilities(self, paths: list[Path]) -> np.ndarray:
        """Probabilities `(N, K)` of image files through the evaluation pipeline."""
        import keras

        from mobilevit_keras.data import load_images

        images = load_images(paths, SHORT_SIDE, SIZE)
        return keras.ops.convert_to_numpy(keras.ops.softmax(self.model(images, training=False)))

    @property
    def samples(self) -> list[Path]:
        return sorted((self.run_dir / "samples").iterdir())

    @property
    def photos(self) -> list[Path]:
        return sorted((self.run_dir / "photos").iterdir())

    def index(self) -> list[dict]:
        """The models of the site's `models.json`."""
        return json.loads((self.site / "models.json").read_text())["models"]


def write_digits(folder: Path, count: int = 16) -> None:
    """Writes scanned digits as grey PNG files of 96 pixels."""
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True)
    for index, digit in enumerate(load_digits().images[:count]):
        image = Image.fromarray((digit * 15.9375).astype(np.uint8))
        image.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{index:02d}.png")


def write_photos(folder: Path) -> None:
    """Writes photographs as JPEG files of many shapes: parts of scikit-learn's two."""
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True)
    generator = np.random.default_rng(5)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        image = Image.fromarray(photo)
        image.save(folder / f"{name}.jpg", quality=92)
        for part in range(14):
            width, height = generator.integers(80, 420, 2)
            left = generator.integers(0, image.width - width)
            top = generator.integers(0, image.height - height)
            crop = image.crop((left, top, left + width, top + height))
            crop.save(folder / f"{name}-{part:02d}.jpg", quality=int(generator.integers(60, 96)))
    shared = Path(__file__).parents[3] / "shared" / "data" / "photos"
    for path in sorted(shared.glob("*.JPEG"))[:40]:
        shutil.copyfile(path, folder / f"shared-{path.stem}.jpg")


def spread(model, images: np.ndarray) -> None:
    """Scales the classifier so that the images get different, confident classes."""
    logits = np.asarray(model(images, training=False))
    kernel, bias = model.head.classifier.kernel, model.head.classifier.bias
    scale = 3.0 / logits.std(axis=0)
    kernel.assign(np.asarray(kernel) * scale)
    bias.assign((np.asarray(bias) - logits.mean(axis=0)) * scale)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All tests of a browser show the exports below, one of which is a TF.js model."""
    for item in items:
        if "exported" in getattr(item, "fixturenames", ()):
            item.add_marker("tfjs")


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
    import keras

    from mobilevit_keras.data import load_images
    from mobilevit_keras.export import export_tfjs, export_tflite
    from mobilevit_keras.models import (
        MobileViTBackbone,
        MobileViTImageClassifier,
        Preprocessing,
    )

    keras.utils.set_random_seed(0)
    run_dir = tmp_path_factory.mktemp("browser") / "run"
    write_digits(run_dir / "samples")
    write_photos(run_dir / "photos")
    # At initial weights: random norms would make all images look alike.
    backbone = MobileViTBackbone(
        stage_filters=(8, 8, 16, 16, 16),
        expand_ratio=2,
        transformer_dims=(16, 16, 16),
        num_layers=(1, 2, 1),
        stem_filters=8,
    )
    model = MobileViTImageClassifier(
        backbone,
        len(CLASS_NAMES),
        class_names=CLASS_NAMES,
        preprocessing=Preprocessing(SHORT_SIDE, SIZE),
    )
    both = [*sorted((run_dir / "samples").iterdir()), *sorted((run_dir / "photos").iterdir())]
    spread(model, load_images(both, SHORT_SIDE, SIZE))
    size, samples = (SIZE, SIZE), run_dir / "samples"
    export_tflite(model, run_dir / "model.tflite", size, "float32", samples)
    export_tflite(model, run_dir / "model_float16.tflite", size, "float16", samples)
    export_tfjs(model, run_dir / "tfjs", size, "float32", samples)
    site = build_site([run_dir], run_dir.parent / "site")
    return Exported(run_dir, site, model)


@pytest.fixture(scope="session")
def site_url(exported) -> Iterator[str]:
    with serving(exported.site) as url:
        yield url


@pytest.fixture(scope="session")
def playwright() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright) -> Iterator:
    """Headless, with a software WebGPU adapter and a camera that shows a test picture."""
    flags = [
        "--enable-unsafe-webgpu",
        "--use-webgpu-adapter=swiftshader",
        # A name that no browser takes for this computer.
        f"--host-resolver-rules=MAP {OTHER_HOST} 127.0.0.1",
    ]
    with start_chromium(playwright, flags) as started:
        yield started


@pytest.fixture
def page_errors() -> Iterator[list[str]]:
    """Errors that nothing in the page caught; a test that provokes one clears the list."""
    errors: list[str] = []
    yield errors
    assert errors == []


@pytest.fixture
def page(browser, site_url, page_errors) -> Iterator:
    """A page with a cache of its own."""
    context = browser.new_context(base_url=site_url, viewport={"width": 1200, "height": 900})
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("pageerror", lambda error: page_errors.append(str(error)))
    yield page
    context.close()
