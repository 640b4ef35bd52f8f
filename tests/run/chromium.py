"""Finds a Chromium and starts it the way the browser tests need it.

Run as a script it fetches Playwright's own where none is installed.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


def find_installed(names: Sequence[str]) -> str | None:
    """Path of the first of these programs that is installed; None leaves Playwright's own."""
    return next((path for path in map(shutil.which, names) if path), None)


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome; None leaves the choice to Playwright's own."""
    return find_installed(NAMES)


def start_chromium(playwright, flags: Sequence[str] = ()):
    """Starts a headless browser, Playwright's `Browser`; it ends with a `with` block around it.

    Args:
        playwright: What `sync_playwright` gives, of which a thread has one.
        flags: Command line flags beside `FLAGS`.
    """
    return playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS, *flags])


@contextmanager
def chromium(flags: Sequence[str] = ()) -> Iterator:
    """The same with a Playwright of its own, for as long as the block lasts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, start_chromium(playwright, flags) as browser:
        yield browser


@contextmanager
def chromium_of(profile: str | Path) -> Iterator:
    """The same with a person's profile, in which what was compiled is kept for the next visit.

    Args:
        profile: Folder of the profile.

    Yields:
        Playwright's `BrowserContext`.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=find_chromium(), args=list(FLAGS)
        )
        try:
            yield context
        finally:
            context.close()


if __name__ == "__main__":
    if find_chromium() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)
