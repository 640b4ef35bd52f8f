"""The subcommands: each a module with HELP, `add_arguments(parser)` and `main(options)`."""

import sys
from collections.abc import Sequence

from mobilevit_keras import commands

COMMANDS = (
    "tflite",
    "tfjs",
    "weights",
    "predict",
    "explain",
    "benchmark",
    "summary",
    "web",
    "demo",
)


def main(arguments: Sequence[str]) -> int:
    """Parses `arguments` and runs the subcommand; returns its exit status."""
    return commands.run_subcommand("convert", COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(commands.run(main))
