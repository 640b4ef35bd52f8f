"""The subcommands: each a module with HELP, `add_arguments(parser)` and `main(options)`."""

import sys
from collections.abc import Sequence

from mobilevit_keras import commands
from train.config import CONFIGS

COMMANDS = (
    *CONFIGS,
    "evaluate",
    "describe",
    "schedule",
    "preview",
    "benchmark",
)


def main(arguments: Sequence[str]) -> int:
    """Parses `arguments` and runs the subcommand; returns its exit status."""
    return commands.run_subcommand("train", COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(commands.run(main))
