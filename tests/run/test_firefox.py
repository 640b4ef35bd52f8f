"""The browser application in a real Firefox: a part of what Chromium is asked, of each kind one."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.run import (
    test_browser,
    test_browser_dense,
    test_browser_detection,
    test_browser_limits,
)
from tests.run.browser_page import data_url, infer, settled
from tests.run.firefox import start_firefox
from tests.run.test_browser_dense import open_page
from tests.run.test_browser_limits import count_streams, open_app, streams_on

pytestmark = [pytest.mark.tfjs, pytest.mark.slow]

dense, dense_url = test_browser_dense.dense, test_browser_dense.dense_url
detecting, detecting_url = test_browser_detection.detecting, test_browser_detection.detecting_url


@pytest.fixture(scope="module")
def browser(playwright) -> Iterator:
    """In Chromium's place, for all that takes a browser."""
    try:
        started = start_firefox(playwright)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with started:
        yield started


def test_runtimes_give_keras_probabilities(page, exported):
    """Of photographs and of scanned digits; Firefox decodes JPEG to the levels of TensorFlow."""
    images = [*exported.photos[:4], *exported.samples[:4]]
    urls = [data_url(path.read_bytes(), "") for path in images]
    wanted = exported.keras_probabilities(images)
    assert len(set(wanted.argmax(1))) > 2, "the images must tell the classes apart"
    files = exported.index()[0]["files"]
    for runtime, file_format in (("litert-wasm", "tflite"), ("tfjs-wasm", "tfjs")):
        ran, found = infer(page, f"/{files[file_format]}", runtime, urls)
        assert ran == runtime
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        assert (found.argmax(1) == wanted.argmax(1)).all()


def test_masks(browser, dense, dense_url, page_errors):
    with open_page(browser, dense_url, page_errors) as page:
        test_browser_dense.test_colours_legend_opacity_and_classes_switched_off(page, dense)


def test_boxes(browser, detecting, detecting_url, page_errors):
    with open_page(browser, detecting_url, page_errors) as page:
        test_browser_detection.test_boxes_threshold_and_classes_switched_off(page, detecting)


def test_live_video_leaves_no_camera_on(page):
    count_streams(page)
    test_browser.test_live_camera(page)
    assert page.evaluate("streams.length") == 1
    assert streams_on(page) == 0


def test_an_image_whose_end_is_not_there_yet(page):
    """Whether it is animated is known before; reading no further is no error."""
    page.add_init_script(
        """Blob.prototype.stream = function () {
          return new ReadableStream({
            start: async (reading) => {
              reading.enqueue(new Uint8Array(await this.arrayBuffer()).slice(0, -500));
            },
          });
        };"""
    )
    open_app(page)
    page.locator("#samples button").first.click()
    page.locator("#samples button[aria-pressed=true]").wait_for()
    settled(page)


@pytest.mark.parametrize("kind", ["text", "damaged"])
def test_a_dropped_file_that_is_no_model_changes_nothing(page, exported, kind):
    test_browser_limits.test_a_dropped_file_that_is_no_model_changes_nothing(page, exported, kind)


def test_works_without_a_connection_after_the_first_load(browser, exported):
    test_browser_limits.test_works_without_a_connection_after_the_first_load(browser, exported)
