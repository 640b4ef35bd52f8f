"""Which operations of a .tflite file LiteRT's GPU backend refuses.

Compiles the file with LiteRT.js for WebGPU, in a headless Chromium that renders in software: too
slow to time, but the same backend that phones' GPUs use says what it takes. Exits with status 1
where an operation is refused.
"""

import argparse
import contextlib
import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.run.chromium import chromium

LITERT = Path(__file__).parents[1] / "convert/web/node_modules/@litertjs"
REFUSAL = "not supported by GPU delegate"

PAGE = b"""<!doctype html><script type="importmap">
{ "imports": { "@litertjs/wasm-utils": "/wasm-utils/dist/index.js" } }
</script>"""

PROGRAM = """async () => {
  const core = await import("/core/dist/index.js");
  await core.loadLiteRt("/core/wasm/");
  const bytes = new Uint8Array(await (await fetch("/model.tflite")).arrayBuffer());
  const model = await core.loadAndCompile(bytes, { accelerator: "webgpu" });
  const shapes = model.getInputDetails().map((input) => [...input.shape]);
  model.delete();
  return shapes;
}"""


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves LiteRT.js, an empty page and the model."""

    model = Path()
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".wasm": "application/wasm",
    }

    def do_GET(self) -> None:
        if self.path != "/":
            super().do_GET()
            return
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def translate_path(self, path: str) -> str:
        if path == "/model.tflite":
            return str(self.model)
        return super().translate_path(path)

    def log_message(self, *_) -> None:
        """Says nothing: only the browser is being listened to."""


@contextlib.contextmanager
def _served(model: Path) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"model": model.resolve()})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(LITERT))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


FLAGS = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


def compile_for_gpu(model: Path, browser) -> tuple[list[list[int]], list[str]]:
    """Compiles a file for WebGPU.

    Args:
        model: The `.tflite` file.
        browser: Playwright's `Browser`, started with `FLAGS`.

    Returns:
        The shapes of its inputs, and the lines in which the backend refuses operations.
    """
    lines: list[str] = []
    with _served(model) as address:
        page = browser.new_page()
        page.on("console", lambda message: lines.extend(message.text.splitlines()))
        page.goto(address)
        shapes = page.evaluate(PROGRAM)
        page.close()
    starts = [index for index, line in enumerate(lines) if REFUSAL in line]
    refused = lines[starts[0] : starts[0] + 20] if starts else []
    return shapes, refused


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.tflite")
    options = parser.parse_args(arguments)
    failed = False
    with chromium(FLAGS) as browser:
        for file in options.files:
            shapes, refused = compile_for_gpu(file, browser)
            verdict = "refused:" if refused else "every operation taken"
            print(f"{file}: input {shapes}, {verdict}")
            for line in refused:
                print(f"  {line}")
            failed |= bool(refused)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
