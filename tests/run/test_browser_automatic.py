""" "Automatic" on a real page: measured once, remembered, said in words, never in the way."""

import json
import re

import numpy as np
import pytest

from tests.run.browser_page import RUNTIMES, choose_runtime, predict, settled, top_five
from tests.run.conftest import CLASS_NAMES

pytestmark = pytest.mark.slow

REMEMBERED = "Object.entries(localStorage).find(([name]) => name.endsWith(':measured'))"


def measured(page) -> list[str]:
    """Waits until the page has measured; returns what it says of each way, the fastest first."""
    summary = page.locator("#status summary", has_text="Measured on this device")
    summary.wait_for(timeout=60_000)
    return page.locator("#status details li").evaluate_all("found => found.map(e => e.textContent)")


def timed(rows: list[str]) -> dict[str, float]:
    """The milliseconds of those that have a time."""
    found = [re.fullmatch(r"(.*): ([\d.]+) ms", row) for row in rows]
    return {match[1]: float(match[2]) for match in found if match}


def remembered(page) -> dict | None:
    found = page.evaluate(REMEMBERED)
    return json.loads(found[1])["files"] if found else None


def loaded(page) -> list[str]:
    """Notes which files of runtimes and models come from now on, once each."""
    files: list[str] = []

    def note(response):
        name = response.url.split("/", 3)[3]
        if re.search(r"\.(wasm|tflite|bin)$", name) and name not in files:
            files.append(name)

    page.context.on("response", note)
    return files


def test_the_fastest_is_found_remembered_and_used(page, exported):
    files = loaded(page)
    page.goto("/")
    page.locator("#samples button").first.click()
    before = settled(page)
    assert [name for name in files if name.endswith(".wasm")] == [
        name for name in files if "/litert/" in name
    ], "the first answer waits for nothing else"
    rows = measured(page)
    times = timed(rows)
    # This browser has threads and no graphics processor; the model has both formats.
    assert len(times) == 3 and sum("LiteRT.js, WebAssembly" in name for name in times) == 2
    assert "LiteRT.js, WebAssembly, 1 thread" in times
    assert any(name.startswith(RUNTIMES["tfjs-wasm"]) for name in times)
    assert list(times.values()) == sorted(times.values())
    others = rows[len(times) :]
    assert {row.split(": ")[0] for row in others} == {
        RUNTIMES[name] for name in ("litert-webgpu", "tfjs-webgl", "tfjs-webgpu")
    }
    assert all("software" in row for row in others), "each says why it was not tried"
    fastest = next(iter(times))
    page.locator("#status", has_text=f"Runs on {fastest}").wait_for()
    assert predict(page) == [(name, pytest.approx(p, abs=1e-3)) for name, p in before]
    assert fastest in page.locator(".result .runs-on").inner_text()
    (kept,) = remembered(page).items()
    assert kept[0] == exported.index()[0]["id"]
    # The next visit runs it at once, and measures nothing.
    del files[:]
    page.reload()
    page.locator("#status", has_text=f"Runs on {fastest}").wait_for()
    assert timed(measured(page)) == times
    page.locator("#samples button").nth(1).click()
    settled(page)
    page.wait_for_timeout(2500)
    folder = "/litert/" if "LiteRT" in fastest else "/tfjs/"
    assert all(folder in name for name in files if name.startswith("runtimes/"))
    assert timed(measured(page)) == times
    # Until somebody wants it measured again.
    page.locator("#status summary").click()
    page.click("#status details button")
    page.locator("#status", has_text="while the page rests").wait_for()
    assert set(timed(measured(page))) == set(times)


def test_a_runtime_that_answers_otherwise_is_left_out(page, exported):
    """Weights that were damaged on their way, of the right length: no error, but another answer."""

    def damage(route):
        weights = np.frombuffer(route.fetch().body(), np.float32)
        # Shapes and what is added to a variance stand among them: small numbers stay.
        route.fulfill(body=np.where(np.abs(weights) > 0.02, weights / 2, weights).tobytes())

    page.context.route("**/*.bin", damage)
    page.goto("/")
    page.locator("#samples button").first.click()
    settled(page)
    rows = measured(page)
    (left_out,) = [row for row in rows if row.startswith(RUNTIMES["tfjs-wasm"])]
    assert left_out.endswith("its answer is another")
    assert len(timed(rows)) == 2


def test_another_version_of_the_page_measures_anew(page):
    page.goto("/")
    page.locator("#samples button").first.click()
    settled(page)
    measured(page)
    change = "([name, kept]) => localStorage.setItem(name, kept.replace('worker-', 'worker-x'))"
    page.evaluate(f"({change})({REMEMBERED})")
    page.reload()
    page.locator("#status", has_text="Runs on").wait_for()
    assert page.locator("#status", has_text="Measured").count() == 0


def test_a_runtime_chosen_by_name_is_not_measured(page):
    files = loaded(page)
    page.goto("/")
    # What was begun before the choice is none of it.
    page.locator("#status", has_text="Runs on").wait_for()
    choose_runtime(page, "tfjs-wasm")
    del files[:]
    page.locator("#samples button").first.click()
    settled(page)
    page.wait_for_timeout(2500)
    assert files == [] and remembered(page) is None
    assert page.locator("#status", has_text="Measured").count() == 0


def test_what_cannot_be_fetched_now_is_tried_again_another_day(page):
    page.context.route("**/*.bin", lambda route: route.abort())
    page.goto("/")
    page.locator("#samples button").first.click()
    settled(page)
    assert len(timed(measured(page))) == 2
    assert remembered(page) is None


def test_it_stands_back_while_the_page_computes(page, exported):
    """Live video of an unmeasured model; afterwards it is measured with one of its frames."""
    page.goto("/")
    page.click("#live")
    page.locator(".result .class").first.wait_for()
    page.wait_for_timeout(2500)
    assert page.locator("#status summary", has_text="Measured").count() == 0
    page.click("#stop")
    assert len(timed(measured(page))) == 3
    # In the midst of measuring, a person is not kept waiting.
    page.locator("#status summary").click()
    page.click("#status details button")
    page.locator("#samples button").first.click()
    page.wait_for_timeout(1200)
    page.locator("#samples button").nth(1).click()
    page.locator("#samples li:nth-child(2) button[aria-pressed=true]").wait_for()
    wanted = top_five(exported.keras_probabilities(exported.samples[1:2])[0], CLASS_NAMES)
    assert settled(page)[0] == (wanted[0][0], pytest.approx(wanted[0][1], abs=1e-3))
    assert len(timed(measured(page))) == 3
