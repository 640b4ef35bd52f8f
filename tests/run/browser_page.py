"""What the browser tests do with the page, and images for it."""

import base64
import io

import numpy as np
from PIL import Image

RUNTIMES = {
    "litert-wasm": "LiteRT.js, WebAssembly",
    "tfjs-wasm": "TensorFlow.js, WebAssembly",
    "tfjs-webgl": "TensorFlow.js, WebGL",
    "litert-webgpu": "LiteRT.js, WebGPU",
    "tfjs-webgpu": "TensorFlow.js, WebGPU",
}

# Runs the module that other pages import, on the images at these addresses or in these strings.
_INFER = """async ([model, runtime, images]) => {
  const { load } = await import("/infer.js");
  const loaded = await load(model, { runtime });
  const outputs = [];
  for (const image of images) {
    const blob = await (await fetch(image)).blob();
    outputs.push(Array.from(await loaded.probabilities(blob)));
  }
  return [loaded.runtime, outputs];
}"""


def data_url(contents: bytes, mime: str = "image/png") -> str:
    """A file as an address that `fetch` reads."""
    return f"data:{mime};base64,{base64.b64encode(contents).decode()}"


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def infer(page, model: str, runtime: str, images: list[str]) -> tuple[str, np.ndarray]:
    """Runs `infer.js` in the page; returns the runtime that ran and the probabilities `(N, K)`."""
    if page.url == "about:blank":
        # Same origin, but none of the application's own work.
        page.goto("/models.json")
    ran, outputs = page.evaluate(_INFER, [model, runtime, images])
    return ran, np.array(outputs)


def choose_runtime(page, runtime: str) -> None:
    """Selects a runtime and waits for it to be ready."""
    page.select_option("#runtime", runtime)
    page.locator("#status", has_text=f"Runs on {RUNTIMES[runtime]}").wait_for()


def settled(page) -> list[tuple[str, float]]:
    """Waits for the chosen image's prediction; returns the first model's result."""
    page.locator("#predict:enabled").wait_for()
    return results(page)


def predict(page) -> list[tuple[str, float]]:
    """Presses "Predict again"; returns the names and probabilities of the first model's result."""
    page.click("#predict")
    page.locator(".result .class").first.wait_for()
    return settled(page)


def results(page, card: int = 0) -> list[tuple[str, float]]:
    """Names and probabilities that a result card shows, the best first."""
    rows = page.locator(".result").nth(card).locator(".class")
    found = rows.evaluate_all(
        "rows => rows.map(row => [row.querySelector('.name').textContent, row.dataset.probability])"
    )
    return [(name, float(probability)) for name, probability in found]


def top_five(probabilities: np.ndarray, names: tuple[str, ...]) -> list[tuple[str, float]]:
    """What the page should show for these probabilities `(K,)`."""
    order = np.argsort(-probabilities, kind="stable")[:5]
    return [(names[index], float(probabilities[index])) for index in order]


def assert_same(shown: list[tuple[str, float]], wanted: list[tuple[str, float]]) -> None:
    """Compares what is shown within 1e-3; classes that close to each other may swap."""
    assert shown[0][0] == wanted[0][0]
    np.testing.assert_allclose([p for _, p in shown], [p for _, p in wanted], atol=1e-3)


def give_file(page, contents: bytes, mime: str, how: str, name: str = "file") -> None:
    """Hands the page a file: "choose", "paste" or "drop"."""
    if how == "choose":
        page.set_input_files("#file", {"name": name, "mimeType": mime, "buffer": contents})
        return
    page.evaluate(
        """async ([url, mime, name, how]) => {
          const blob = await (await fetch(url)).blob();
          const data = new DataTransfer();
          data.items.add(new File([blob], name, { type: mime }));
          const event = how === "paste"
            ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
            : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
          document.body.dispatchEvent(event);
        }""",
        [data_url(contents, mime), mime, name, how],
    )
