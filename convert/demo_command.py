"""Serves exported models as a web application; on this computer only, without `--host`."""

import argparse
import tempfile
from pathlib import Path

from convert.server import serve
from convert.site import build_site
from convert.web_command import add_model_arguments

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
    with tempfile.TemporaryDirectory(prefix="mobilevit-demo-") as folder:
        site = build_site([options.run_dir, *options.model], Path(folder) / "site", npm=options.npm)
        serve(site, options.host, options.port)
    return 0
