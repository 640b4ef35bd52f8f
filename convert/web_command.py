"""Writes a static site with the browser application and exported models; any web host serves it.

Threads need a host that sends the headers `Cross-Origin-Opener-Policy: same-origin` and
`Cross-Origin-Embedder-Policy: require-corp`; without them the site works on one thread.
"""

import argparse
from pathlib import Path

from convert.site import build_site

HELP = "write a static site that runs exported models in the browser"
USES_TENSORFLOW = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this subcommand's arguments."""
    add_model_arguments(parser)
    parser.add_argument(
        "output",
        type=Path,
        metavar="OUT_DIR",
        help="the site's folder; your own files beside an earlier site, such as .git, stay",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that choose models; `demo` has the same."""
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN_DIR", help="folder with exported models and samples/"
    )
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="another folder, or a .tflite file, to compare with; may be repeated",
    )
    parser.add_argument("--npm", default="npm", help="command that builds the page (default: npm)")


def main(options: argparse.Namespace) -> int:
    """Writes the site and says where it is."""
    site = build_site([options.run_dir, *options.model], options.output, npm=options.npm)
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    print(f"Wrote {site} ({size / 1e6:.1f} MB).")
    return 0
