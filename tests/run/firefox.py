"""Finds a Firefox and starts it the way the browser tests need it."""

from pathlib import Path

from tests.run.chromium import find_installed

NAMES = ("firefox-esr", "firefox")
PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    # One thread, and so no worker that starts another: while somebody debugs, as Playwright does,
    # Firefox registers such a worker in its main thread and wakes up one of two that wait for it.
    # Where that is the wrong one, now and then, `new Worker` never returns.
    "dom.maxHardwareConcurrency": 1,
}


def start_firefox(playwright):
    """Starts a headless browser, Playwright's `Browser`; it ends with a `with` block around it.

    Args:
        playwright: What `sync_playwright` gives, of which a thread has one.

    Raises:
        FileNotFoundError: If there is neither an installed one nor Playwright's own.
    """
    kind = playwright.firefox
    # Playwright speaks to an installed one as to no build of its own.
    found = find_installed(NAMES)
    if found is None and not Path(kind.executable_path).exists():
        raise FileNotFoundError(
            f"a Firefox must be installed: {' or '.join(NAMES)}, or Playwright's own by "
            "`python -m playwright install firefox`"
        )
    own = {"channel": "moz-firefox", "executable_path": found} if found else {}
    return kind.launch(firefox_user_prefs=PREFERENCES, **own)
