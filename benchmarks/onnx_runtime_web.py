"""ONNX Runtime Web, which transformers.js runs, on one thread of WebAssembly in Chromium."""

import subprocess
from pathlib import Path

from convert.server import serving

VERSION = "1.30.0"

_PAGE = '<!doctype html><meta charset="utf-8"><script type="module" src="page.js"></script>'
_SCRIPT = """
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1;
globalThis.timed = async (file, size, runs) => {
  const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
  const pixels = Float32Array.from({ length: 3 * size * size }, () => Math.random());
  const images = new ort.Tensor("float32", pixels, [1, 3, size, size]);
  const times = [];
  for (let run = 0; run < runs + 3; run++) {
    const began = performance.now();
    const outputs = await session.run({ [session.inputNames[0]]: images });
    if (run >= 3) times.push(performance.now() - began);
    if (!Object.values(outputs)[0].data.every(Number.isFinite)) throw new Error("no numbers");
  }
  await session.release();
  return times;
};
"""


def write_page(folder: Path, python: str, variant: str, size: int) -> None:
    """Writes what `milliseconds` opens: Hugging Face's model, and the runtime from npm.

    Args:
        folder: A new folder.
        python: The interpreter of an environment for `onnx_classifier.py`.
        variant: Name of the variant.
        size: Side of the image.

    Raises:
        RuntimeError: If npm or the conversion fails.
    """
    folder.mkdir()
    (folder / "index.html").write_text(_PAGE)
    (folder / "page.js").write_text(_SCRIPT)
    package = f"onnxruntime-web@{VERSION}"
    script = str(Path(__file__).with_name("onnx_classifier.py"))
    for command in (
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), package],
        [python, script, str(folder), "--variant", variant, "--size", str(size)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed.\n{done.stderr[-3000:]}")


def milliseconds(browser, folder: Path, size: int, runs: int) -> dict[str, list[float]]:
    """The times of each run, ascending, of "float32" and "q8"."""
    with serving(folder) as url:
        page = browser.new_page()
        page.goto(url)
        page.wait_for_function("globalThis.timed !== undefined")
        times = {
            name: sorted(
                page.evaluate("(options) => timed(...options)", [f"{name}.onnx", size, runs])
            )
            for name in ("float32", "q8")
        }
        page.close()
    return times
