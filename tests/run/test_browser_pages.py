"""The pages as such: accessibility, small screens, what is transferred, installation, benchmark."""

import itertools
import json
from pathlib import Path

import pytest

from convert.site import WEB_SOURCES
from tests.run.browser_page import RUNTIMES, choose_runtime, settled

pytestmark = pytest.mark.slow

AXE = WEB_SOURCES / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 360, "height": 740}


def violations(page) -> list[str]:
    """What axe-core finds that is serious or critical."""
    # Not as a script of the page, which the page's policy would refuse.
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{problem['id']}: {node['html'][:120]}"
        for problem in found
        if problem["impact"] in ("serious", "critical")
        for node in problem["nodes"]
    ]


def assert_accessible(page, pictures: Path) -> None:
    """Checks what is shown now on a phone and a desk, light and dark; keeps pictures of it."""
    pictures.mkdir(exist_ok=True)
    for width, scheme in itertools.product((PHONE["width"], 1280), ("light", "dark")):
        page.set_viewport_size(PHONE | {"width": width})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert violations(page) == [], (width, scheme)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        page.screenshot(path=pictures / f"{width}-{scheme}.png", full_page=True)


def test_accessibility(page, tmp_path):
    """One model with what was measured of it, and two side by side."""
    page.goto("/")
    page.locator("#samples button").first.click()
    settled(page)
    page.locator("#status summary", has_text="Measured").wait_for()
    for summary in page.locator("summary").all():
        summary.click()
    assert_accessible(page, tmp_path / "one")
    page.locator("#models input").nth(1).check()
    settled(page)
    page.locator(".compared").wait_for()
    assert_accessible(page, tmp_path / "two")


def test_accessibility_of_the_benchmark(page, tmp_path):
    page.goto("/benchmark/")
    page.locator("#start:enabled").wait_for()
    assert_accessible(page, tmp_path / "benchmark")


def test_accessibility_of_camera_and_errors(page, tmp_path):
    page.goto("/")
    page.click("#camera")
    page.locator("#camera-bar").wait_for()
    page.set_input_files("#file", {"name": "x", "mimeType": "text/plain", "buffer": b"x"})
    page.locator("#error").wait_for()
    assert_accessible(page, tmp_path / "camera")


@pytest.mark.parametrize("where", ["/", "/benchmark/"])
def test_small_screens_need_no_sideways_scrolling(page, where):
    page.set_viewport_size(PHONE)
    page.goto(where)
    if where == "/":
        page.locator("#models input").nth(1).check()
        page.locator("#samples button").first.click()
        settled(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]
    small = page.locator("button:visible, select:visible, .button:visible").evaluate_all(
        "found => found.filter(e => e.getBoundingClientRect().height < 24).map(e => e.outerHTML)"
    )
    assert small == [], "too small to touch"


# A part of the names of the files that only this runtime needs.
OWN_FILES = {"litert-wasm": "/litert/", "tfjs-wasm": "/tfjs/"}


def test_only_the_chosen_runtime_is_loaded(page, exported, capsys):
    sizes = {}

    def note(response):
        sizes[response.url] = int(response.headers.get("content-length", 0))

    page.context.on("response", note)
    page.goto("/")
    page.locator("#status", has_text=RUNTIMES["litert-wasm"]).wait_for()
    page.locator("#samples button").first.click()
    settled(page)
    first = dict(sizes)
    assert any("/litert/" in url and url.endswith(".wasm") for url in first)
    assert sum(url.endswith(".wasm") for url in first) == 1
    assert not any("tfjs" in url.rsplit("/runtimes/")[-1].split("/", 1)[-1] for url in first)
    choose_runtime(page, "tfjs-wasm")
    later = set(sizes) - set(first)
    assert any("/tfjs/" in url and url.endswith(".wasm") for url in later)
    with capsys.disabled():
        print(f"\nfirst prediction: {len(first)} files, {sum(first.values()) / 1e6:.2f} MB")
        for url, size in sorted(first.items(), key=lambda item: -item[1])[:6]:
            print(f"  {size / 1e3:8.0f} kB  {url.split('/', 3)[3]}")


def test_can_be_installed(page):
    page.goto("/")
    manifest = page.evaluate(
        "async () => (await fetch(document.querySelector('link[rel=manifest]').href)).json()"
    )
    assert manifest["display"] == "standalone"
    assert {"192x192", "512x512"} <= {icon["sizes"] for icon in manifest["icons"]}
    assert "maskable" in {icon["purpose"] for icon in manifest["icons"]}
    for icon in manifest["icons"]:
        response = page.request.get(f"/{icon['src']}")
        assert response.ok and response.headers["content-type"] == icon["type"]
    scope = page.evaluate("navigator.serviceWorker.ready.then(ready => ready.scope)")
    assert scope == page.url


def test_benchmark_page(page, exported):
    page.goto("/benchmark")
    page.fill("#runs", "3")
    page.fill("#threads", "1")
    page.click("#start:enabled")
    page.locator("#progress", has_text="Done.").wait_for(timeout=60_000)
    report = json.loads(page.locator("#json").input_value())
    measured = {(row["model"], row["runtime"]): row for row in report["results"]}
    models = exported.index()
    # One model has both formats, the other a .tflite file only.
    assert len(measured) == len(RUNTIMES) + 2
    for model in models:
        row = measured[model["name"], "litert-wasm"]
        assert (row["runs"], row["threads"]) == (3, 1)
        assert 0 < row["minimum"] <= row["median"]
        assert row["memory"] > 1e6
    assert measured[models[0]["name"], "tfjs-wasm"]["median"] > 0
    assert "software" in measured[models[0]["name"], "tfjs-webgl"]["reason"]
    assert page.locator("#rows tr").count() == len(measured)
    page.click("#copy")
    page.locator("#progress", has_text="Copied").wait_for()


def test_benchmark_can_be_stopped(page):
    page.goto("/benchmark/")
    page.fill("#runs", "1000")
    page.click("#start:enabled")
    page.locator("#progress", has_text=RUNTIMES["litert-wasm"]).wait_for()
    page.click("#stop")
    page.locator("#progress", has_text="Stopped.").wait_for()
    assert page.locator("#start").is_enabled()
