"""Browser runtimes on one thread, beside others', first and second visits, and live video.

    python -m benchmarks.browser --onnx-python path/to/venv/bin/python [--variant mobilevit_s]

Builds a site with this package's exports and with a plain TF.js conversion of the same model and
runs the site's benchmark page in Chromium on WebAssembly, one thread on one core. With the other
Python, which needs torch, transformers, onnx, onnxscript and onnxruntime, Hugging Face's model
takes its turns in ONNX Runtime Web, which npm fetches. Prints the page's table, the ratios, the
time of a first prediction, what was transferred for it, the time of one without a network
afterwards, and how fast live video is answered. Exits with status 1 where a bound is missed. Bounds
of int8 are those of processors with AVX-VNNI (or Arm's dot products): V8 uses no other products of
bytes.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from PIL import Image

from benchmarks import onnx_runtime_web
from benchmarks.natural_weights import natural_classifier
from benchmarks.plain_conversions import plain_tfjs
from convert.server import serving
from convert.site import build_site
from mobilevit_keras.export import export_tfjs, export_tflite
from mobilevit_keras.export.check_images import generated_images, open_check_images
from mobilevit_keras.models import VARIANTS
from mobilevit_keras.tasks.task import Comparison
from tests.run.chromium import chromium, chromium_of

# How many times as fast as the other, and of which variants.
FIRST = ("mobilevit_xxs", "mobilevit_xs", "mobilevit_s")
BOUNDS = {
    ("float32", "plain TF.js"): (3.0, FIRST),
    ("int8", "plain TF.js"): (6.0, ("mobilevit_s",)),
    ("this package's TF.js", "plain TF.js"): (1.4, FIRST),
    ("float32", "ONNX Runtime Web float32"): (1.5, FIRST),
    ("int8", "ONNX Runtime Web q8"): (2.5, ("mobilevit_s",)),
}
VISITS = {"mobilevit_xxs": {"first": 2.5, "megabytes": 13.0, "again": 1.0, "frame": 33.0}}
PLAIN = "plain"
LIVE_SECONDS = 10.0
ROUNDS = 2

# Whether the service worker answers for the page and holds what it needs without a network.
_KEPT = """async () => {
  const { active } = (await navigator.serviceWorker.getRegistration()) ?? {};
  if (active?.state !== "activated" || navigator.serviceWorker.controller !== active) return false;
  const held = [];
  for (const name of await caches.keys()) {
    for (const { url } of await (await caches.open(name)).keys()) held.push(url);
  }
  return [".tflite", ".wasm", ".jpg"].every((end) => held.some((url) => url.endsWith(end)));
}"""


def write_models(folder: Path, variant: str, size: int) -> list[Path]:
    """Exports one model in five ways; returns the folders, float16 first, then int8."""
    keras.utils.set_random_seed(0)
    model = natural_classifier(variant, size)
    images = open_check_images(None, size, size, model.preprocessing)
    calibration = np.concatenate([images, generated_images(size, size)])
    half, small, full, plain = (folder / n for n in ("float16", "int8", "float32", PLAIN))
    for run_dir in (half, small, full, plain):
        run_dir.mkdir()
    # What rounding does to random weights' answers is no matter here.
    with mock.patch.object(Comparison, "check"):
        export_tflite(model, half / "model.tflite", size, "float16")
        export_tflite(model, small / "model.tflite", size, "int8", images, calibration)
        export_tflite(model, full / "model.tflite", size)
        report = export_tfjs(model, full / "tfjs", size)
    plain_tfjs(model, plain / "tfjs", size)
    (plain / "tfjs" / "labels.txt").write_bytes((full / "tfjs" / "labels.txt").read_bytes())
    report |= {"precision": f"{PLAIN} float32", "parity": None, "num_classes": model.num_classes}
    (plain / "tfjs" / "report.json").write_text(json.dumps(report))
    noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
    for run_dir in (half, small):
        (run_dir / "samples").mkdir()
        Image.fromarray(noise).resize((400, 320)).save(run_dir / "samples" / "noise.jpg")
    return [half, small, full, plain]


@contextmanager
def one_core() -> Iterator[None]:
    """Everything that the block starts has one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def run_benchmark_page(browser, url: str, runs: int) -> list[dict]:
    """Runs the page with one thread and returns the rows that have times."""
    page = browser.new_page()
    page.goto(f"{url}benchmark/")
    page.fill("#runs", str(runs))
    page.fill("#threads", "1")
    page.click("#start:enabled")
    page.locator("#progress", has_text="Done.").wait_for(timeout=600_000)
    rows = json.loads(page.locator("#json").input_value())["results"]
    page.close()
    return [row for row in rows if "median" in row]


def predict(page, url: str) -> float:
    """Opens the page and takes its first sample; returns the seconds until it is answered."""
    began_at = time.perf_counter()
    page.goto(url)
    page.locator("#samples button").first.click()
    page.locator(".result .class").first.wait_for(timeout=60_000)
    return time.perf_counter() - began_at


def two_visits(profile: Path, url: str) -> tuple[float, dict[str, int], float]:
    """Seconds to the first result with an empty profile, the bytes of each file until then, and the
    seconds to one in a second visit without a network."""
    sizes: dict[str, int] = {}

    def note(response):
        if response.url.startswith(url) and not response.from_service_worker:
            path = response.url.removeprefix(url) or "index.html"
            sizes.setdefault(path, int(response.headers.get("content-length", 0)))

    with chromium_of(profile) as context:
        context.on("response", note)
        page = context.new_page()
        first = predict(page, url)
        transferred = dict(sizes)
        while not page.evaluate(_KEPT):
            page.wait_for_timeout(50)
        # Someone looks at the answer, and the browser keeps what it has compiled.
        page.wait_for_timeout(5000)
        page.close()
        context.set_offline(True)
        again = predict(context.new_page(), url)
    return first, transferred, again


def milliseconds_live(browser, url: str) -> float:
    """Milliseconds from one answered frame of the camera to the next, on one thread."""
    context = browser.new_context(permissions=["camera"], service_workers="block")

    def without_isolation(route):
        response = route.fetch()
        kept = {k: v for k, v in response.headers.items() if not k.startswith("cross-origin-")}
        route.fulfill(response=response, headers=kept)

    # WebAssembly has threads on isolated pages only.
    context.route("**/*", without_isolation)
    page = context.new_page()
    page.goto(url)
    page.locator("#status", has_text="Runs on").wait_for(timeout=60_000)
    page.click("#camera")
    page.click("#live")
    page.locator("#rate", has_text="frames/s").wait_for(timeout=60_000)
    page.wait_for_timeout(1000 * LIVE_SECONDS)
    rate = float(page.locator("#rate").inner_text().split()[0])
    context.close()
    return 1000.0 / rate


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="mobilevit_xxs", choices=list(VARIANTS))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--onnx-python", metavar="FILE", help="for MobileViT, not for v2")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_dirs = write_models(folder, options.variant, options.size)
        site, half, small = (
            build_site(parts, folder / f"site {number}")
            for number, parts in enumerate((run_dirs, run_dirs[:1], run_dirs[1:2]))
        )
        if options.onnx_python:
            other = folder / "onnx"
            onnx_runtime_web.write_page(other, options.onnx_python, options.variant, options.size)
        rows, minima = [], {}
        with serving(half) as url:
            first, transferred, again = two_visits(folder / "profile", url)
        with one_core(), chromium() as browser:
            # In turns, and the fastest run: what else goes on disturbs it least.
            for _ in range(ROUNDS):
                with serving(site) as url:
                    found = run_benchmark_page(browser, url, options.runs)
                rows += found
                times = {name_of(row): row["minimum"] for row in found}
                if options.onnx_python:
                    runs = onnx_runtime_web.milliseconds(browser, other, options.size, options.runs)
                    times |= {f"ONNX Runtime Web {name}": each[0] for name, each in runs.items()}
                minima = {name: min(ms, minima.get(name, ms)) for name, ms in times.items()}
        with chromium(["--use-fake-device-for-media-stream=fps=60"]) as browser:
            with serving(small) as url:
                live = milliseconds_live(browser, url)
    print(f"{'model':42} {'runtime':14} {'median ms':>9} {'minimum ms':>10} {'memory MB':>9}")
    for row in rows:
        print(
            f"{row['model']:42} {row['runtime']:14} {row['median']:9.1f} {row['minimum']:10.1f} "
            f"{row['memory'] / 1e6:9.1f}"
        )
    for name, ms in minima.items():
        print(f"{name}: {ms:.1f} ms")
    bound = VISITS.get(options.variant, {}).get
    megabytes = sum(transferred.values()) / 1e6
    missed = [
        *too_slow(minima, options.variant),
        *above("first prediction from an empty cache in float16, s", first, bound("first")),
        *above("transferred for it, MB", megabytes, bound("megabytes")),
        *above("prediction in a second visit, offline, s", again, bound("again")),
        *above("a frame of live video in int8, ms", live, bound("frame")),
    ]
    for path, size in sorted(transferred.items(), key=lambda item: -item[1]):
        print(f"  {size:>10,} {path}")
    for sentence in missed:
        print(f"missed: {sentence}", file=sys.stderr)
    return int(bool(missed))


def name_of(row: dict) -> str:
    """What a row of the page's table is called in `BOUNDS`."""
    if PLAIN in row["model"]:
        return "plain TF.js"
    if row["runtime"] == "tfjs-wasm":
        return "this package's TF.js"
    return next(name for name in ("float16", "float32", "int8") if name in row["model"])


def too_slow(minima: dict[str, float], variant: str) -> Iterator[str]:
    """Prints how the times stand to each other; yields what misses its bound."""
    for (name, other), (bound, variants) in BOUNDS.items():
        if other in minima:
            ratio = minima[other] / minima[name]
            counts = variant in variants
            print(f"{name}: {ratio:.2f} times as fast as {other}" + f" (bound {bound})" * counts)
            if counts and ratio < bound:
                yield f"{name} is {ratio:.2f} times as fast as {other}, not {bound}"


def above(what: str, value: float, bound: float | None) -> Iterator[str]:
    """Prints a figure; yields it where it is above its bound."""
    print(f"{what}: {value:.2f}" + ("" if bound is None else f" (bound {bound})"))
    if bound is not None and value > bound:
        yield f"{what}: {value:.2f}, not {bound}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
