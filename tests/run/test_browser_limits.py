"""The browser application when things go wrong: a clear message, and the next prediction works."""

import functools
import http.server
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from convert.server import SiteHandler, make_server, serving
from mobilevit_keras.description import (
    DESCRIPTION_FILE,
    compact,
    read_archive,
    read_description,
    write_archive,
)
from tests.run.browser_page import (
    choose_runtime,
    encoded,
    give_file,
    predict,
    settled,
    top_five,
)
from tests.run.conftest import CLASS_NAMES, OTHER_HOST, SIZE

pytestmark = pytest.mark.slow


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


def test_an_image_as_large_as_possible(page, exported):
    """64 megapixels, on which a page could run out of memory."""
    white = encoded(Image.new("L", (8000, 8000), 255))
    open_app(page)
    give_file(page, white, "image/png", "choose")
    found = settled(page)
    give_file(page, encoded(Image.new("L", (80, 80), 255)), "image/png", "choose")
    page.locator("#preview[width='80']").wait_for()
    assert settled(page) == [(name, pytest.approx(share, abs=1e-3)) for name, share in found]
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


def described(**changes):
    """Answers with a file that says something else of itself, or nothing with `task=None`."""

    def handle(route) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            path.write_bytes(route.fetch().body())
            description = read_description(path) | changes
            entries = read_archive(path) | {DESCRIPTION_FILE: compact(description)}
            if description["task"] is None:
                del entries[DESCRIPTION_FILE]
            # No shorter than it was, which would be another fault.
            entries["labels.txt"] += b"\n" * path.stat().st_size
            write_archive(path, entries)
            route.fulfill(body=path.read_bytes())

    return handle


BAD_MODELS = {
    "missing": ("**/*.tflite", lambda route: route.fulfill(status=404), "is missing"),
    "unreachable": ("**/*.tflite", lambda route: route.abort(), "is missing"),
    "truncated": ("**/*.tflite", cut, "is incomplete"),
    "no model": ("**/*.tflite", lambda route: route.fulfill(body=9999999 * "x"), "not a model"),
    "no description": ("**/*.tflite", described(task=None), "does not say what it recognises"),
    "unknown task": ("**/*.tflite", described(task="depth"), "cannot use this model"),
    "other task": ("**/*.tflite", described(task="detection"), "cannot use this model"),
    "other labels": (
        "**/*.tflite",
        described(class_names=[f"long name {index}" for index in range(700)]),
        "cannot use this model",
    ),
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
    assert "No runtime can run this model here: LiteRT.js, WebAssembly: " in error_text(page)
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

    # What a service worker answers no route sees.
    page.add_init_script("delete Navigator.prototype.serviceWorker")
    page.route("**/assets/worker-*.js", hold_first)
    open_app(page)
    assert len(held) == 2
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


@pytest.mark.slow
def test_lost_graphics_context(page, exported):
    """The same of WebGL, whose answer TensorFlow.js then awaits for ever."""
    # Drawn in software.
    page.set_default_timeout(90_000)
    open_app(page)
    worker = own_worker(page)
    worker.evaluate(
        """() => {
          const original = OffscreenCanvas.prototype.getContext;
          OffscreenCanvas.prototype.getContext = function (kind, ...options) {
            const context = original.call(this, kind, ...options);
            if (kind.startsWith("webgl")) (self.contexts ??= []).push(context);
            return context;
          };
        }"""
    )
    choose_runtime(page, "tfjs-webgl")
    page.locator("#samples button").nth(1).click()
    assert settled(page)
    worker.evaluate(
        "() => contexts.forEach((one) => one.getExtension('WEBGL_lose_context')?.loseContext())"
    )
    page.click("#predict")
    assert "The computation stopped: the graphics context was lost" in error_text(page)
    assert_next_prediction_works(page, exported)


@contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    """Any static web host: Python's own, which sends no header of ours."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_a_host_without_isolation_headers_means_one_thread(browser, exported):
    with plain_server(exported.site) as url:
        context = browser.new_context(base_url=url)
        page = context.new_page()
        page.goto("/")
        page.locator("#status", has_text="LiteRT.js, WebAssembly, 1 thread").wait_for()
        assert_next_prediction_works(page, exported)
        context.close()


def test_plain_http_from_another_device(browser, exported):
    """Without a secure context: no service worker, threads, camera or `crypto.randomUUID`."""
    with serving(exported.site) as url:
        context = browser.new_context(base_url=url.replace("127.0.0.1", OTHER_HOST))
        page = context.new_page()
        open_app(page)
        assert not page.evaluate("isSecureContext")
        assert "1 thread" in page.locator("#status").inner_text()
        assert_next_prediction_works(page, exported)
        page.click("#copy")
        page.locator("#message", has_text="Copied").wait_for()
        page.click("#camera")
        assert "https" in error_text(page)
        context.close()


@pytest.mark.parametrize("broken", ["Worker", "crypto.getRandomValues"])
def test_a_start_that_throws_is_said(page, broken):
    page.add_init_script(f"{broken} = function () {{ throw new Error('broken'); }}")
    page.goto("/")
    assert "broken" in error_text(page)
    assert "could not be loaded" in page.locator("#status").inner_text()


def streams_on(page) -> int:
    """Cameras that the page has opened and not turned off."""
    return page.evaluate(
        "streams.filter((s) => s.getTracks().some((t) => t.readyState === 'live')).length"
    )


def count_streams(page) -> None:
    page.add_init_script(
        """streams = [];
        const media = navigator.mediaDevices;
        const original = media?.getUserMedia.bind(media);
        // The empty page before it has none in Firefox.
        if (media) media.getUserMedia = async (...options) => {
          const stream = await original(...options);
          streams.push(stream);
          return stream;
        };"""
    )


def test_a_fast_hand_leaves_no_camera_on(page, exported):
    count_streams(page)
    open_app(page)
    # Within one task, as no person could.
    page.evaluate(
        """() => {
          for (const id of ["live", "live", "camera", "live", "stop", "camera", "camera"])
            document.getElementById(id).click();
        }"""
    )
    page.locator("#capture:enabled").wait_for()
    assert streams_on(page) == 1
    page.click("#stop")
    assert streams_on(page) == 0
    assert page.locator("#rate").is_hidden()
    assert_next_prediction_works(page, exported)


def test_a_camera_that_is_unplugged(page, exported):
    count_streams(page)
    open_app(page)
    page.click("#live")
    page.locator(".result .class").first.wait_for()
    # What the browser does then; a page's own `stop` sends no event.
    page.evaluate(
        "streams[0].getTracks().forEach((track) => { track.dispatchEvent(new Event('ended')); })"
    )
    assert "disconnected" in error_text(page)
    assert streams_on(page) == 0
    assert_next_prediction_works(page, exported)


def test_a_hidden_page_turns_the_camera_off(page):
    count_streams(page)
    open_app(page)
    page.click("#live")
    page.locator(".result .class").first.wait_for()
    set_hidden = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(set_hidden, True)
    assert streams_on(page) == 0
    page.evaluate(set_hidden, False)
    page.locator("#rate", has_text="frames/s").wait_for()
    assert streams_on(page) == 1


def test_another_image_while_the_first_is_predicted(page, exported):
    open_app(page)
    for button in page.locator("#samples button").all()[:6]:
        button.click()
    page.locator("#samples li:nth-child(6) button[aria-pressed=true]").wait_for()
    wanted = top_five(exported.keras_probabilities(exported.samples[5:6])[0], CLASS_NAMES)
    assert settled(page)[0] == (wanted[0][0], pytest.approx(wanted[0][1], abs=1e-3))
    assert "Predicting" not in page.locator("#results").inner_text()


def test_a_model_file_dropped_onto_the_page(page, exported, tmp_path):
    """It says what it is itself; nothing of it is fetched."""
    path = tmp_path / "mine.tflite"
    shutil.copyfile(exported.run_dir / "model.tflite", path)
    names = [f"mine {index}" for index in range(len(CLASS_NAMES))]
    description = read_description(exported.run_dir / "model.tflite")
    description |= {"schema": 1, "class_names": names}
    write_archive(path, read_archive(path) | {DESCRIPTION_FILE: compact(description)})
    open_app(page)
    page.context.set_offline(True)
    give_file(page, path.read_bytes(), "", "drop", path.name)
    page.locator("#status", has_text="mine.tflite: Runs on").wait_for()
    page.context.set_offline(False)
    page.locator("#samples button").first.click()
    probabilities = exported.keras_probabilities(exported.samples[:1])[0]
    assert settled(page)[0][0] == top_five(probabilities, tuple(names))[0][0]
    assert page.locator("#models input:checked").count() == 1
    # One without a description says so.
    write_archive(path, {"labels.txt": b"a"})
    give_file(page, path.read_bytes(), "", "drop", "other.tflite")
    assert "other.tflite does not say what it recognises" in error_text(page)


@pytest.mark.parametrize("way", ["dropped", "chosen"])
def test_a_model_beside_a_photo_says_what_it_is(page, exported, way):
    open_app(page)
    # What is measured would tell it later.
    choose_runtime(page, "litert-wasm")
    page.locator("#samples button").first.click()
    settled(page)
    contents = (exported.run_dir / "model_float16.tflite").read_bytes()
    if way == "dropped":
        give_file(page, contents, "", "drop", "mine.tflite")
    else:
        file = {"name": "mine.tflite", "mimeType": "application/octet-stream", "buffer": contents}
        page.set_input_files("#model-file", file)
    page.locator(".model-card", has_text="mine.tflite").wait_for()
    detail = page.locator("#models label", has_text="mine.tflite").locator("small")
    assert detail.inner_text().startswith(f"{SIZE} × {SIZE} pixels")


NO_MODELS = {
    "text": (lambda _: b"no model at all", "is not a model"),
    "empty": (lambda _: b"", "is not a model"),
    "truncated": (lambda file: file[:-400], "does not say what it recognises: it is incomplete"),
    "damaged": (lambda file: file[:64] + bytes(9000) + file[9064:], "No runtime can run"),
}


@pytest.mark.parametrize("kind", NO_MODELS)
def test_a_dropped_file_that_is_no_model_changes_nothing(page, exported, kind):
    spoil, message = NO_MODELS[kind]
    open_app(page)
    page.locator("#models input").nth(1).check()
    page.locator("#models input").nth(0).uncheck()
    page.locator("#samples button").first.click()
    found = settled(page)
    contents = spoil((exported.run_dir / "model.tflite").read_bytes())
    give_file(page, contents, "", "drop", "mine.tflite")
    assert message in error_text(page)
    assert "no file for it" not in error_text(page)
    page.locator("#status", has_text="Runs on").wait_for()
    assert settled(page) == found
    assert page.locator("#models label", has_text="mine").count() == 0
    checked = page.locator("#models input").evaluate_all("all => all.map(one => one.checked)")
    assert checked == [False, True]
    assert error_text(page), "it stays"


@contextmanager
def slow_server(site: Path, name: str, go_on: threading.Event) -> Iterator[str]:
    """Sends half of the file whose address ends so, and the rest when told."""

    class Slow(SiteHandler):
        def do_GET(self):
            if not self.path.endswith(name):
                return super().do_GET()
            contents = (site / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            self._send_headers({"Content-Length": str(len(contents))})
            half = len(contents) // 2
            self.wfile.write(contents[:half])
            self.wfile.flush()
            # In two pieces, so that the page hears of both.
            time.sleep(0.3)
            self.wfile.write(contents[half : half + 1000])
            go_on.wait(30)
            self.wfile.write(contents[half + 1000 :])

    with make_server(site, "127.0.0.1", 0) as server:
        server.RequestHandlerClass = Slow
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.url
        finally:
            go_on.set()
            server.shutdown()


def test_a_download_tells_how_far_it_is_and_can_be_cancelled(browser, exported):
    go_on = threading.Event()
    with slow_server(exported.site, "model_float16.tflite", go_on) as url:
        context = browser.new_context(base_url=url, service_workers="block")
        context.set_default_timeout(20_000)
        page = context.new_page()
        open_app(page)
        page.locator("#models input").nth(0).uncheck()
        page.locator("#models input").nth(1).check()
        page.locator("#status", has_text=re.compile(r"\d+ kB of \d+ kB")).wait_for()
        # The server sends half of it, and waits.
        page.wait_for_function("document.querySelector('#status progress').position > 0.4")
        assert page.locator("#status progress").evaluate("bar => bar.position") < 0.7
        page.click("#status .cancel")
        page.locator("#models input").nth(0).check()
        # Without waiting for the rest.
        page.locator("#status", has_text="full precision: Runs on").wait_for()
        assert not go_on.is_set()
        assert not page.locator("#error").is_visible()
        assert_next_prediction_works(page, exported)
        go_on.set()
        page.locator("#models input").nth(1).check()
        page.locator("#status", has_text="half precision: Runs on").wait_for()
        context.close()


def test_a_runtime_tells_how_far_it_is(browser, exported):
    """It is larger than most models, and fetched after the first of them."""
    go_on = threading.Event()
    with slow_server(exported.site, "_internal.wasm", go_on) as url:
        context = browser.new_context(base_url=url, service_workers="block")
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.goto("/")
        page.locator("#status", has_text=re.compile(r"runtime.* \d\.\d MB of \d\.\d MB")).wait_for()
        # The server sends half of it, and waits.
        page.wait_for_function("document.querySelector('#status progress').position > 0.4")
        assert page.locator("#status progress").evaluate("bar => bar.position") < 0.7
        go_on.set()
        page.locator("#status", has_text="full precision: Runs on").wait_for()
        assert_next_prediction_works(page, exported)
        context.close()


LEAKS = """async (address) => {
  const violations = [];
  self.addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
  const outcomes = [];
  try { await fetch(address, { method: "POST", body: "pixels" }); outcomes.push("fetch"); } catch {}
  try { new WebSocket(address.replace("http", "ws")); } catch {}
  if (self.document) {
    const image = new Image();
    image.src = address + "?pixels";
    await new Promise((done) => { image.onload = image.onerror = done; });
  }
  await new Promise((done) => setTimeout(done, 100));
  return [outcomes, violations.length > 0];
}"""


@pytest.mark.parametrize("host", ["own server", "any server"])
def test_images_cannot_leave(browser, exported, host):
    """Neither the page nor its worker reaches another host, even where headers are missing."""
    received = []

    class Thief(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self):
            received.append(self.rfile.readline())

    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Thief) as thief,
        serving(exported.site) if host == "own server" else plain_server(exported.site) as url,
    ):
        threading.Thread(target=thief.serve_forever, daemon=True).start()
        context = browser.new_context(base_url=url)
        page = context.new_page()
        open_app(page)
        address = f"http://127.0.0.1:{thief.server_address[1]}/"
        for where in (page, own_worker(page)):
            assert where.evaluate(LEAKS, address) == [[], True]
        assert received == []
        context.close()
        thief.shutdown()


def wait_until_kept(page, exported, version: str = "") -> None:
    """Waits until the service worker answers for the page and holds all that it needs offline."""
    model = exported.index()[0]["files"]["tflite"]
    # Not `wait_for_function`: to it the promise of an answer is an answer.
    page.evaluate(
        """async ([version, ...paths]) => {
          const prefix = `mobilevit:${encodeURIComponent(new URL(document.baseURI).pathname)}:`;
          const isKept = async () => {
            const registration = await navigator.serviceWorker.getRegistration();
            const { active, installing, waiting } = registration ?? {};
            if (active?.state !== "activated" || installing || waiting) return false;
            if (navigator.serviceWorker.controller !== active) return false;
            const names = (await caches.keys()).filter((name) => name.startsWith(prefix + version));
            if (names.length !== 1) return false;
            const cache = await caches.open(names[0]);
            const held = (await cache.keys()).map(({ url }) => url);
            return paths.every((path) => held.some((url) => url.endsWith(path)));
          };
          const end = performance.now() + 30_000;
          while (!(await isKept())) {
            if (performance.now() > end) throw new Error("not kept in time");
            await new Promise((done) => setTimeout(done, 50));
          }
        }""",
        arg=[version, model, "samples/00.png", ".wasm"],
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
        wait_until_kept(page, exported)
    # The server is gone.
    assert_works_offline(page, url, exported)
    context.close()


def deploy(site: Path, version: str) -> None:
    """Another version of the application: other scripts under other names."""
    worker = site / "service_worker.js"
    text = re.sub(r"\"([0-9a-f]{12}|next)\"", f'"{version}"', worker.read_text())
    for path in (site / "assets").iterdir():
        other = path.with_name(f"{path.stem}x{path.suffix}")
        path.rename(other)
        text = text.replace(path.name, other.name)
        for file in (*site.glob("assets/*"), *site.glob("*.html"), *site.glob("*/index.html")):
            file.write_text(file.read_text().replace(path.name, other.name))
    worker.write_text(text)


def test_a_new_version_keeps_what_works_offline(browser, exported, tmp_path):
    site = shutil.copytree(exported.site, tmp_path / "site")
    context = browser.new_context()
    page = context.new_page()
    with serving(site) as url:
        page.goto(url)
        wait_until_kept(page, exported)
        deploy(site, "next")
        page.evaluate("navigator.serviceWorker.ready.then((ready) => ready.update())")
        wait_until_kept(page, exported, "next")
        # This tab is the old version's: a new worker needs a script that the host has no more.
        own_worker(page).evaluate("self.close()")
        page.wait_for_timeout(300)
        assert_next_prediction_works(page, exported)
    assert_works_offline(page, url, exported)
    context.close()


def test_sites_of_one_origin_keep_their_own_files(browser, exported, tmp_path):
    """One at the root, one in a folder of it, which once shared the first one's cache."""
    root = shutil.copytree(exported.site, tmp_path / "root")
    shutil.copytree(exported.site, root / "b" / "models" / "site")
    context = browser.new_context()
    page = context.new_page()
    with serving(root) as url:
        inner = f"{url}b/models/site/"
        for address in (url, inner):
            page.goto(address)
            wait_until_kept(page, exported)
        # What 0.1.0 kept of the inner site, under a name without its path, and of the outer one.
        page.evaluate("caches.open('mobilevit-0123456789ab').then((c) => c.add('models.json'))")
        page.goto(url)
        page.evaluate("caches.open('mobilevit-ba9876543210').then((c) => c.add('models.json'))")
        for version in ("next", "last"):
            deploy(root, version)
            page.evaluate("navigator.serviceWorker.ready.then((ready) => ready.update())")
            wait_until_kept(page, exported, version)
        names = page.evaluate("caches.keys()")
        assert "mobilevit-0123456789ab" in names and "mobilevit-ba9876543210" not in names
        assert len(names) == 4, "this site's version, the one before, and the other site's two"
    for address in (inner, url):
        assert_works_offline(page, address, exported)
    context.close()


def test_errors_of_the_host_are_never_kept(browser, exported):
    context = browser.new_context()
    page = context.new_page()
    with serving(exported.site) as url:
        page.goto(url)
        wait_until_kept(page, exported)
    port = int(url.rsplit(":")[-1].strip("/"))

    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503, "in trouble")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert_works_offline(page, url, exported)
        assert page.evaluate("fetch('../samples/none.png').then((r) => r.status)") == 503
        server.shutdown()
    kept = """async () => {
      const cache = await caches.open((await caches.keys())[0]);
      const found = await Promise.all((await cache.keys()).map((key) => cache.match(key)));
      return found.map(({ status }) => status);
    }"""
    assert set(page.evaluate(kept)) == {200}
    assert_works_offline(page, url, exported)
    context.close()
