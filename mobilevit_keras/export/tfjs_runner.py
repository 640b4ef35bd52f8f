"""Runs TF.js models in Node.js, with the packages that a browser page uses."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from mobilevit_keras.export.results import Results, check_images, concatenate
from mobilevit_keras.files import atomic_directory

BACKENDS = ("wasm", "cpu")
_MINIMUM_NODE = 20
_FILES = ("package.json", "package-lock.json", "run.mjs")


def prepare_tfjs_runtime() -> Path:
    """Installs the npm packages that run a TF.js model, once, and returns their folder.

    They lie in the user's cache folder, under a name made of their lock file's hash:
    `$MOBILEVIT_KERAS_CACHE`, else `$XDG_CACHE_HOME/mobilevit_keras`, else
    `~/.cache/mobilevit_keras`.

    Raises:
        OSError: If Node.js 20 or npm is missing, the installation fails or the cache cannot be
            written.
    """
    _check_node()
    source = resources.files("mobilevit_keras.export") / "tfjs_runtime"
    contents = {name: (source / name).read_bytes() for name in _FILES}
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
    directory = _cache() / f"tfjs_runtime-{digest}"
    if directory.is_dir():
        return directory
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("Running TF.js models needs npm, which comes with Node.js 20. None is found.")
    with atomic_directory(directory) as temporary:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        process = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=temporary,
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise OSError(f"`npm ci` failed in {directory}: {process.stderr.strip()[-500:]}")
    return directory


def _cache() -> Path:
    if "MOBILEVIT_KERAS_CACHE" in os.environ:
        return Path(os.environ["MOBILEVIT_KERAS_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mobilevit_keras"


def _check_node() -> None:
    rule = f"Running TF.js models needs Node.js {_MINIMUM_NODE} or newer."
    if shutil.which("node") is None:
        raise OSError(f"{rule} None is found.")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    match = re.match(r"v(\d+)\.", version)
    if match is None or int(match[1]) < _MINIMUM_NODE:
        raise OSError(f"{rule} Received: {version or 'no version'}.")


def tfjs_input_size(directory: str | Path) -> tuple[int, int]:
    """Height and width of the images that an exported model takes.

    Raises:
        FileNotFoundError: If the folder holds no model.
        ValueError: If it is no export.
    """
    path = Path(directory) / "model.json"
    if not path.is_file():
        raise FileNotFoundError(f"There is no TF.js model in {directory}.")
    try:
        (entry,) = json.loads(path.read_text("utf-8"))["signature"]["inputs"].values()
        _, height, width, _ = (int(side["size"]) for side in entry["tensorShape"]["dim"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"An exported model is needed. Received: {path}.") from error
    return height, width


def run_tfjs(
    directory: str | Path, images: np.ndarray | Iterable[np.ndarray], backend: str = "wasm"
) -> Results:
    """Runs an exported model on images, one after another, in one Node.js process.

    Args:
        directory: The TF.js model's folder.
        images: `(N, H, W, 3)`, RGB, 0..255, or an iterable of such batches.
        backend: "wasm", as in the browser application, or "cpu".

    Raises:
        FileNotFoundError: If the folder holds no model.
        ValueError: If the images have another size or the backend is unknown.
        OSError: If Node.js or the packages are missing.
        RuntimeError: If the model does not run.
    """
    batches = [images] if isinstance(images, np.ndarray) else images
    return concatenate(iterate_tfjs(directory, batches, backend))


def iterate_tfjs(
    directory: str | Path, batches: Iterable[np.ndarray], backend: str = "wasm"
) -> Iterator[Results]:
    """The same for one batch after another; none is held."""
    if backend not in BACKENDS:
        raise ValueError(f"`backend` must be one of {BACKENDS}. Received: {backend!r}.")
    size = tfjs_input_size(directory)
    runtime = prepare_tfjs_runtime()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            ["node", runtime / "run.mjs", Path(directory).resolve(), backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        with process:
            try:
                for batch in batches:
                    images = check_images(batch, *size).astype("<f4")
                    yield concatenate(_infer(process, image) for image in images)
            except (BrokenPipeError, EOFError) as error:
                # Node.js ended early; its own message says why.
                process.wait()
                errors.seek(0)
                raise RuntimeError(
                    f"The TF.js model in {directory} does not run: {_reason(errors.read())}"
                ) from error
            finally:
                # Also where the caller takes no more: the process would wait for images.
                process.kill()


def _infer(process: subprocess.Popen, image: np.ndarray) -> Results:
    """Sends one image and reads what the model answers; see run.mjs."""
    process.stdin.write(image.tobytes())
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise EOFError
    head = json.loads(line)
    outputs = {}
    for name, shape in head["outputs"].items():
        content = process.stdout.read(4 * int(np.prod(shape)))
        outputs[name] = np.frombuffer(content, "<f4").reshape(shape)
    return Results(outputs, np.array([head["milliseconds"]]))


def _reason(printed: str) -> str:
    # Node.js prints the line of code, the error and then the calls that led there.
    return next((line for line in printed.splitlines() if "Error: " in line), "no reason")
