"""The browser application when things go wrong: a clear message, and the next prediction works."""

import functools
import http.server
import re
import shutil
import threading

import pytest
from PIL import Image

from convert.server import serving
from tests.run.browser_page import (
    choose_runtime,
    encoded,
    give_file,
    predict,
    settled,
    top_five,
)
from tests.run.conftest import CLASS_NAMES


def open_app(page) -> None:
    page.goto("/")
    page.locator("#status", has_text="Runs on").wait_for()


def assert_next_prediction_works(page, exported) -> None:
    page.locator("#samples button").first.click()
    page.locator("#samples button[aria-pressed=true]").wait_for()
    wanted = top_five(exported.keras_probabilities(exported.samples[:1])[0], CLASS_NAMES)
    assert settled(page)[0] == (wanted[0][0], pytest.approx(wanted[0][1], abs=1e-3))
    assert not page.locator("#error").is_visible()


def own_worker(page):
    """The page's worker, not one of those that a runtime has started for its threads."""
    return next(worker for worker in page.workers if worker.url.startswith("blob:"))


def error_text(page) -> str:
    page.locator("#error").wait_for()
    return page.locator("#error").inner_text()


def truncated_jpeg(exported) -> bytes:
    return exported.photos[0].read_bytes()[:400]


BAD_FILES = {
    "text": (lambda _: b"no image at all", "text/plain", "not an image"),
    "lies": (lambda _: b"no image at all", "image/png", "not an image"),
    "empty": (lambda _: b"", "image/png", "not an image"),
    "truncated": (truncated_jpeg, "image/jpeg", "not an image"),
    "huge": (lambda _: encoded(Image.new("1", (10_000, 10_000))), "image/png", "100 megapixels"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_that_are_no_usable_image(page, exported, kind):
    make, mime, message = BAD_FILES[kind]
    open_app(page)
    give_file(page, make(exported), mime, "choose")
    assert message in error_text(page)
    assert_next_prediction_works(page, exported)


def test_an_animated_image_says_that_its_first_frame_counts(page):
    open_app(page)
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    give_file(page, animation, "image/gif", "choose")
    page.locator("#message", has_text="first frame").wait_for()
    assert settled(page)


def test_paste_without_an_image(page, exported):
    open_app(page)
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.setData("text/plain", "words");
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }"""
    )
    assert "no image" in error_text(page)
    assert_next_prediction_works(page, exported)


def cut(route) -> None:
    """Answers with half of the file."""
    response = route.fetch()
    body = response.body()
    route.fulfill(status=200, headers={"content-type": "x/y"}, body=body[: len(body) // 2])


def other_task(route) -> None:
    """A report without what a classifier has."""
    route.fulfill(json={"format": "tflite", "variant": "mobilevit_xxs", "task": "detection"})


def other_outputs(route) -> None:
    """A report that promises another number of classes than the model has."""
    report = route.fetch().json()
    route.fulfill(json=report | {"num_classes": 7})


BAD_MODELS = {
    "missing": ("**/*.tflite", lambda route: route.fulfill(status=404), "is missing"),
    "unreachable": ("**/*.tflite", lambda route: route.abort(), "is missing"),
    "truncated": ("**/*.tflite", cut, "is incomplete"),
    "no model": ("**/*.tflite", lambda route: route.fulfill(body=9999999 * "x"), "not a model"),
    "no report": ("**/*.report.json", lambda route: route.fulfill(status=404), "is missing"),
    "other task": ("**/*.report.json", other_task, "does not classify images"),
    "other labels": ("**/*.report.json", other_outputs, "does not classify images"),
    "tfjs missing": ("**/*.bin", lambda route: route.fulfill(status=404), "is missing"),
    "tfjs truncated": ("**/*.bin", cut, "is incomplete"),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_models_that_cannot_be_used(page, exported, kind):
    pattern, handler, message = BAD_MODELS[kind]
    page.context.route(pattern, handler)
    page.goto("/")
    if kind.startswith("tfjs"):
        page.locator("#status", has_text="Runs on").wait_for()
        page.select_option("#runtime", "tfjs-wasm")
    assert message in error_text(page)
    page.context.unroute(pattern)
    assert_next_prediction_works(page, exported)


def test_a_damaged_model_is_refused_by_its_runtime(page, exported):
    """The right length and identifier, but nothing sensible in between."""

    def damage(route):
        body = bytearray(route.fetch().body())
        body[16 : len(body) // 2] = bytes(len(body) // 2 - 16)
        route.fulfill(status=200, body=bytes(body))

    page.context.route("**/*.tflite", damage)
    page.goto("/")
    page.select_option("#runtime", "litert-wasm")
    assert "No runtime can run this model here" in error_text(page)
    page.context.unroute("**/*.tflite")
    assert_next_prediction_works(page, exported)


def test_a_site_without_models(page):
    page.route("**/models.json", lambda route: route.fulfill(json={"models": [], "samples": []}))
    page.goto("/")
    assert "no models" in error_text(page)


@pytest.mark.parametrize(
    ("name", "message"),
    [("NotAllowedError", "not permitted"), ("NotFoundError", "No camera was found")],
)
def test_no_camera(page, exported, name, message):
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => "
        f"Promise.reject(new DOMException('denied', '{name}'))"
    )
    open_app(page)
    for button in ("#camera", "#live"):
        page.click(button)
        assert message in error_text(page)
        assert page.locator(button).get_attribute("aria-pressed") == "false"
    assert_next_prediction_works(page, exported)


@pytest.mark.parametrize(
    "crash", ["self.close()", "setTimeout(() => { throw new Error('crash'); })"]
)
def test_worker_crash_and_recovery(page, exported, page_errors, crash):
    open_app(page)
    page.locator("#samples button").nth(1).click()
    settled(page)
    worker = own_worker(page)
    # It ends instead of answering.
    worker.evaluate(f"() => {{ self.postMessage = () => {{ {crash} }}; }}")
    page.click("#predict")
    assert "ended unexpectedly" in error_text(page)
    page_errors.clear()
    assert predict(page)
    assert_next_prediction_works(page, exported)


def test_a_worker_that_ends_between_two_predictions(page, exported):
    open_app(page)
    own_worker(page).evaluate("self.close()")
    page.locator("#samples button").nth(1).click()
    page.wait_for_timeout(300)
    assert_next_prediction_works(page, exported)


def test_a_worker_that_never_comes_up(page, exported):
    held = []

    def hold_first(route):
        if held:
            route.continue_()
        held.append(route)

    page.route("**/assets/worker-*.js", hold_first)
    open_app(page)
    # The second may come from the service worker, which no route sees.
    assert held
    assert_next_prediction_works(page, exported)


@pytest.mark.slow
def test_lost_graphics_device(page, exported):
    """A graphics device that goes away between two predictions (driver reset, laptop asleep)."""
    open_app(page)
    worker = own_worker(page)
    worker.evaluate(
        """() => {
          const request = GPUAdapter.prototype.requestDevice;
          GPUAdapter.prototype.requestDevice = async function (...options) {
            return (self.device = await request.apply(this, options));
          };
        }"""
    )
    choose_runtime(page, "tfjs-webgpu")
    page.locator("#samples button").nth(1).click()
    assert settled(page)
    worker.evaluate("() => self.device.destroy()")
    page.click("#predict")
    assert "The computation stopped" in error_text(page)
    assert_next_prediction_works(page, exported)


def test_a_host_without_isolation_headers_means_one_thread(browser, exported):
    """Any static web host will do."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=exported.site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context(base_url=f"http://127.0.0.1:{server.server_address[1]}")
        page = context.new_page()
        page.goto("/")
        page.locator("#status", has_text="LiteRT.js, WebAssembly, 1 thread").wait_for()
        assert_next_prediction_works(page, exported)
        context.close()
        server.shutdown()


def wait_until_kept(page, exported, cache_name: str) -> None:
    """Waits until the service worker answers for the page and holds all that it needs offline."""
    model = exported.index()[0]["files"]["tflite"]
    # Not `wait_for_function`: to it the promise of an answer is an answer.
    page.evaluate(
        """async ([prefix, ...paths]) => {
          const isKept = async () => {
            const registration = await navigator.serviceWorker.getRegistration();
            const { active, installing, waiting } = registration ?? {};
            if (active?.state !== "activated" || installing || waiting) return false;
            if (navigator.serviceWorker.controller !== active) return false;
            const names = await caches.keys();
            if (names.length !== 1 || !names[0].startsWith(prefix)) return false;
            const cache = await caches.open(names[0]);
            const held = (await cache.keys()).map(({ url }) => url);
            return paths.every((path) => held.some((url) => url.endsWith(path)));
          };
          const end = performance.now() + 60_000;
          while (!(await isKept())) {
            if (performance.now() > end) throw new Error("not kept within a minute");
            await new Promise((done) => setTimeout(done, 50));
          }
        }""",
        arg=[cache_name, model, "samples/00.png", ".wasm"],
    )


def assert_works_offline(page, url: str, exported) -> None:
    page.goto(url)
    page.locator("#status", has_text="Runs on").wait_for()
    assert_next_prediction_works(page, exported)
    page.goto(f"{url}benchmark/")
    page.locator("#start:enabled").wait_for()


def test_works_without_a_connection_after_the_first_load(browser, exported):
    context = browser.new_context()
    page = context.new_page()
    with serving(exported.site) as url:
        page.goto(url)
        wait_until_kept(page, exported, "mobilevit-")
    # The server is gone.
    assert_works_offline(page, url, exported)
    context.close()


def test_a_new_version_keeps_what_works_offline(browser, exported, tmp_path):
    site = shutil.copytree(exported.site, tmp_path / "site")
    worker = site / "service_worker.js"
    context = browser.new_context()
    page = context.new_page()
    with serving(site) as url:
        page.goto(url)
        wait_until_kept(page, exported, "mobilevit-")
        worker.write_text(re.sub(r"mobilevit-\w{12}", "mobilevit-next", worker.read_text()))
        page.evaluate("navigator.serviceWorker.ready.then((ready) => ready.update())")
        wait_until_kept(page, exported, "mobilevit-next")
    assert_works_offline(page, url, exported)
    context.close()
