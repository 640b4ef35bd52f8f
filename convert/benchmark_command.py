"""Times .tflite files side by side: warm-up, interleaved rounds, minimum and median.

Prints a table: size, XNNPACK partitions, memory, times and each file's ratio to the first one.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

HELP = "time .tflite files side by side"
KEEPS_LIBRARIES_QUIET = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".tflite files")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument(
        "--compare",
        metavar="mobilenet_v2",
        help="a well-known model to time too, untrained, at the first file's size",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the measurements")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.png",
        help="draw accuracy against time and size, for files that know theirs",
    )


def main(options: argparse.Namespace) -> int:
    from mobilevit_keras.export.benchmark import benchmark, plot, write_comparison
    from mobilevit_keras.export.tflite_runner import export_size
    from mobilevit_keras.files import atomic_path

    with contextlib.ExitStack() as stack:
        files = list(options.files)
        if options.compare is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mobilevit_keras-"))
            files.append(Path(folder) / f"{options.compare}.tflite")
            write_comparison(options.compare, files[-1], export_size(files[0]))
        timings = benchmark(files, options.threads, options.rounds)
    _print_table(timings, options.threads)
    if options.json is not None:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps([timing.as_json() for timing in timings], indent=2))
    if options.plot is not None:
        with atomic_path(options.plot) as temporary:
            left_out = plot(timings, temporary)
        if left_out:
            print(f"not drawn, without a known accuracy: {', '.join(left_out)}", file=sys.stderr)
    return 0


def _print_table(timings, num_threads: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{num_threads} thread(s)", title_justify="left")
    headings = (
        "file",
        "input",
        "MB",
        "parts",
        "memory MB",
        "min ms",
        "median ms",
        "ratio",
        "accuracy",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "file" else "right", no_wrap=True)
    for timing in timings:
        table.add_row(
            Path(timing.file).name,
            "x".join(map(str, timing.size)),
            f"{timing.bytes / 1e6:.2f}",
            str(timing.xnnpack_partitions),
            "" if timing.memory_bytes is None else f"{timing.memory_bytes / 1e6:.1f}",
            f"{timing.minimum_ms:.2f}",
            f"{timing.median_ms:.2f}",
            f"{timing.ratio:.2f}",
            "" if timing.accuracy is None else f"{100 * timing.accuracy:.1f}%",
        )
    # As wide as the table, whatever the terminal: a figure cut short is worse than a long line.
    Console(width=max(100, Console().width)).print(table)
