"""The browser module as a package: what `npm pack` holds, and README's examples as they stand."""

import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert.site import WEB_SOURCES
from tests.run.conftest import CLASS_NAMES

pytestmark = pytest.mark.slow

NODE_MODULES = WEB_SOURCES / "node_modules"
VITE = NODE_MODULES / "vite" / "bin" / "vite.js"
TSC = NODE_MODULES / "typescript" / "bin" / "tsc"


def example(heading: str, language: str) -> str:
    """The code in this language below a heading of the package's README."""
    text = (WEB_SOURCES / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {heading}\n(.*?)^### ", text, re.MULTILINE | re.DOTALL)
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return code


def run(command: list[str], folder: Path) -> str:
    """Runs a command without a network; returns what it prints."""
    env = os.environ | {"npm_config_offline": "true", "npm_config_audit": "false"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    run(["npm", "pack", "--silent", "--pack-destination", str(folder)], WEB_SOURCES)
    (packed,) = folder.iterdir()
    return packed


@pytest.fixture(scope="module")
def photo(exported, tmp_path_factory) -> tuple[Path, str, float]:
    """A photograph, and Keras's class and probability for it."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    with Image.open(exported.run_dir / "photos" / "flower.jpg") as image:
        image.resize((320, 240)).save(path, quality=95)
    probabilities = exported.keras_probabilities([path])[0]
    best = int(probabilities.argmax())
    return path, CLASS_NAMES[best], float(probabilities[best])


@pytest.fixture
def project(package, exported, photo, tmp_path) -> Path:
    """A folder with nothing but the package, a model and a photograph."""
    shutil.copy(package, tmp_path)
    shutil.copy(exported.run_dir / "model.tflite", tmp_path)
    shutil.copy(photo[0], tmp_path)
    (tmp_path / "package.json").write_text('{ "private": true, "type": "module" }')
    return tmp_path


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keeps the terminal for what a person needs."""


@contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    """Python's own server, which knows nothing of the module."""
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def assert_page_shows(browser, url: str, photo: tuple[Path, str, float]) -> None:
    """Opens the page and compares the words in it with Keras's answer."""
    _, label, probability = photo
    context = browser.new_context()
    try:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_function("document.body.innerText.trim() !== ''", timeout=60_000)
        assert errors == []
        found, share = page.locator("body").inner_text().split()
        assert found == label
        # Decoders of JPEG differ by single levels.
        assert float(share) == pytest.approx(probability, abs=2e-2)
    finally:
        context.close()


def test_the_package_holds_all_that_it_names_and_no_more(package):
    with tarfile.open(package) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        described = json.load(archive.extractfile("package/package.json"))
    assert "dependencies" not in described, "it needs no other package"
    exports = described["exports"]
    targets = [*exports["."].values(), exports["./package.json"]]
    assert {target.removeprefix("./") for target in targets} <= names
    assert {"README.md", "lib/LICENSE"} <= names
    for build in ("litert/litert_wasm_internal", "litert/litert_wasm_compat_internal"):
        assert {f"lib/runtimes/{build}.mjs", f"lib/runtimes/{build}.wasm"} <= names
    assert "lib/runtimes/tfjs/tfjs-backend-wasm.wasm" in names
    others = {name for name in names if not name.startswith("lib/")}
    assert others == {"README.md", "package.json"}


def fresh_vite_project(project: Path) -> None:
    """Does what the README says, in a project like that of `npm create vite`."""
    (project / "public").mkdir()
    for name in ("model.tflite", "photo.jpg"):
        shutil.move(project / name, project / "public")
    steps = example("In a Vite project", "sh")
    assert next(project.glob("*.tgz")).name in steps
    run(["sh", "-e", "-c", steps], project)
    (project / "main.js").write_text(example("In a Vite project", "js"))
    (project / "index.html").write_text(
        '<!doctype html><html lang="en"><title>Test</title><body>'
        '<script type="module" src="/main.js"></script></body></html>'
    )


def test_a_vite_project_builds_with_it(browser, project, photo):
    fresh_vite_project(project)
    run(["node", str(VITE), "build"], project)
    with plain_server(project / "dist") as url:
        assert_page_shows(browser, url, photo)


@contextmanager
def vite_server(project: Path) -> Iterator[str]:
    """Vite's own server, for those who develop."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    command = ["node", str(VITE), "--host", "127.0.0.1", "--port", str(port), "--strictPort"]
    server = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(url).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


def test_a_vite_project_is_developed_with_it(browser, project, photo):
    fresh_vite_project(project)
    with vite_server(project) as url:
        assert_page_shows(browser, url, photo)


def test_a_page_without_a_bundler_imports_it(browser, package, project, photo):
    with tarfile.open(package) as archive:
        archive.extractall(project, filter="data")
    shutil.move(project / "package" / "lib", project)
    page = example("On a page without a bundler", "html")
    (project / "index.html").write_text(f"<!doctype html><html><body>{page}</body></html>")
    with plain_server(project) as url:
        assert_page_shows(browser, url, photo)


def test_node_runs_it(project, photo, exported):
    path, label, _ = photo
    run(["npm", "install", *map(str, project.glob("*.tgz"))], project)
    with Image.open(path) as image:
        (project / "photo.rgba").write_bytes(image.convert("RGBA").tobytes())
    (project / "main.js").write_text(example("In Node 20", "js"))
    answers = json.loads(run(["node", "main.js"], project).splitlines()[-1])
    wanted = np.sort(exported.keras_probabilities([path])[0])[::-1][:5]
    assert answers[0]["label"] == label
    np.testing.assert_allclose([answer["probability"] for answer in answers], wanted, atol=1e-3)


# A misspelt name must be an error: types that are not found are `any`, which allows everything.
TYPED = """import { load, type Prediction, RUNTIMES, type RuntimeName } from "mobilevit-keras-web";
const model = await load("model.tflite", { threads: 2 });
if (model.task === "classification") {
  const [best]: Prediction[] = await model.classify(new Blob());
  console.log(best?.label.length, RUNTIMES satisfies readonly RuntimeName[]);
  // @ts-expect-error
  await model.clasify(new Blob());
}
// @ts-expect-error
await load("model.tflite", { runtime: "litert-wsam" });
export {};
"""


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
def test_types_are_found_and_checked(project, resolution):
    run(["npm", "install", *map(str, project.glob("*.tgz"))], project)
    (project / "main.ts").write_text(TYPED)
    options = {
        "module": "esnext" if resolution == "bundler" else resolution,
        "moduleResolution": resolution,
        "target": "es2022",
        "lib": ["es2022", "dom"],
        "types": [],
        "strict": True,
        "noEmit": True,
    }
    config = {"compilerOptions": options, "files": ["main.ts"]}
    (project / "tsconfig.json").write_text(json.dumps(config))
    run(["node", str(TSC), "-p", "."], project)
