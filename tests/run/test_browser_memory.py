"""The page's memory stays flat: over live frames, and over models that come and go."""

import json

import pytest

from tests.run.browser_page import choose_runtime

pytestmark = pytest.mark.slow

MEGABYTE = 1e6
FLAT = 5 * MEGABYTE
FRAMES = 500
SWITCHES = 50

# What a garbage collector cannot tell: bitmaps that are open, and the runtime's own memory.
COUNT_IN_PAGE = """
  self.bitmaps = [];
  const create = self.createImageBitmap.bind(self);
  self.createImageBitmap = async (...options) => {
    const bitmap = await create(...options);
    self.bitmaps.push(bitmap);
    return bitmap;
  };
"""
COUNT_IN_WORKER = f"""() => {{
  {COUNT_IN_PAGE}
  self.addEventListener("message", (event) => {{
    const image = event.data.argument?.image;
    if (image instanceof ImageBitmap) self.bitmaps.push(image);
  }});
  const post = self.postMessage.bind(self);
  self.postMessage = (message, transfer) => {{
    const found = message.result;
    self.runtimeMemory = found?.memory ?? found?.state?.memory ?? self.runtimeMemory;
    post(message, transfer);
  }};
}}"""
# One that is closed has no size.
OPEN = "self.bitmaps.filter(({ width }) => width > 0).length"


class Heaps:
    """The page's and its worker's heaps, through Chromium's own debugger."""

    def __init__(self, page):
        self.page = page
        self.session = page.context.new_cdp_session(page)
        self.workers: list[str] = []
        self.answers: dict[int, dict] = {}
        self.count = 0
        self.session.on("Target.attachedToTarget", self._attached)
        self.session.on("Target.receivedMessageFromTarget", self._received)
        options = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False}
        self.session.send("Target.setAutoAttach", options)
        assert self.workers, "the page's worker must have begun"

    def _attached(self, event: dict) -> None:
        if event["targetInfo"]["type"] == "worker":
            self.workers.append(event["sessionId"])

    def _received(self, event: dict) -> None:
        answer = json.loads(event["message"])
        if "id" in answer:
            self.answers[answer["id"]] = answer

    def _ask(self, worker: str, method: str) -> dict:
        self.count += 1
        message = json.dumps({"id": self.count, "method": method})
        self.session.send("Target.sendMessageToTarget", {"sessionId": worker, "message": message})
        while self.count not in self.answers:
            self.page.wait_for_timeout(10)
        return self.answers.pop(self.count)["result"]

    def bytes(self) -> int:
        """What all of them hold once what nobody can reach is gone; no WebAssembly memory."""
        usages = []
        # What the first collection ends is found by the second.
        for _ in range(2):
            self.session.send("HeapProfiler.collectGarbage")
            usages = [self.session.send("Runtime.getHeapUsage")]
            for worker in self.workers:
                self._ask(worker, "HeapProfiler.collectGarbage")
                usages.append(self._ask(worker, "Runtime.getHeapUsage"))
        names = ("usedSize", "embedderHeapUsedSize", "backingStorageSize")
        return sum(usage[name] for usage in usages for name in names)


def watched(page):
    """The opened page's worker with what counts in it, and the heaps of both."""
    page.add_init_script(COUNT_IN_PAGE)
    page.goto("/")
    # By name, so that nothing is measured meanwhile.
    choose_runtime(page, "litert-wasm")
    (worker,) = [worker for worker in page.workers if worker.url.startswith("blob:")]
    worker.evaluate(COUNT_IN_WORKER)
    return worker, Heaps(page)


def assert_flat(before: int, after: int, capsys, what: str) -> None:
    with capsys.disabled():
        print(f"\n{what}: {before / MEGABYTE:.1f} MB before, {after / MEGABYTE:.1f} MB after")
    assert after - before < FLAT


def test_over_live_frames(page, capsys):
    worker, heaps = watched(page)

    def show(frames: int) -> int:
        wanted = page.evaluate("self.bitmaps.length") + frames
        page.click("#live")
        while page.evaluate("self.bitmaps.length") < wanted:
            page.wait_for_timeout(50)
        assert page.evaluate(OPEN) <= 1, "one frame, while it is looked at"
        assert worker.evaluate(OPEN) <= 1
        page.click("#stop")
        page.wait_for_timeout(500)
        assert page.evaluate(OPEN) == worker.evaluate(OPEN) == 0
        return heaps.bytes() + worker.evaluate("self.runtimeMemory")

    before = show(50)
    after = show(FRAMES)
    assert_flat(before, after, capsys, f"{FRAMES} live frames")


def test_over_models_that_come_and_go(page, capsys):
    """With an image, so that each of them also answers."""
    worker, heaps = watched(page)
    page.locator("#samples button").first.click()
    boxes = page.locator("#models input")

    def switch(times: int) -> int:
        for turn in range(times):
            to = 1 - turn % 2
            boxes.nth(to).check()
            boxes.nth(1 - to).uncheck()
            name = ("full precision", "half precision")[to]
            page.locator(".result h3", has_text=name).wait_for()
            page.locator("#predict:enabled").wait_for()
            assert page.locator(".result").count() == 1
        assert worker.evaluate(OPEN) == 0
        return heaps.bytes() + worker.evaluate("self.runtimeMemory")

    before = switch(10)
    after = switch(SWITCHES)
    assert_flat(before, after, capsys, f"{SWITCHES} switches")
