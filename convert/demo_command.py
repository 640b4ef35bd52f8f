"""Serves exported models as a web application; on this computer only, without `--host`."""

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from convert.server import check_port, serve
from convert.site import build_site
from convert.web_command import add_model_arguments

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PREFIX, _LOCK = "mobilevit-demo-", "lock"

HELP = "serve exported models as a web application"
USES_TENSORFLOW = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this subcommand's arguments."""
    add_model_arguments(parser)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other computers in (default: 127.0.0.1)",
    )


def main(options: argparse.Namespace) -> int:
    """Builds a site in a temporary folder and serves it until interrupted."""
    # Before the build, which takes its time.
    check_port(options.port)
    remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, held(Path(folder)):
        site = build_site([options.run_dir, *options.model], Path(folder) / "site", npm=options.npm)
        serve(site, options.host, options.port)
    return 0


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a lock in a folder, which the system takes back however this process ends."""
    with open(folder / _LOCK, "wb") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_abandoned() -> None:
    """Removes the folders of demos that were killed: those whose lock nobody holds."""
    if not fcntl:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Without a lock file it is one that starts at this moment, or another user's.
        with contextlib.suppress(OSError), open(folder / _LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
