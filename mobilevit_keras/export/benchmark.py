"""Latency, memory and size of `.tflite` files, measured side by side."""

import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilevit_keras.description import read_description
from mobilevit_keras.export.conversion import convert
from mobilevit_keras.export.serving import save_serving
from mobilevit_keras.export.structure import inspect_tflite
from mobilevit_keras.export.tflite_runner import open_interpreter

COMPARISONS = ("mobilenet_v2",)
_WARM_UP = 3

# A process without TensorFlow: its memory is that of a device which only runs the file.
_MEMORY_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from ai_edge_litert.interpreter import Interpreter

def kilobytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = kilobytes()
interpreter = Interpreter(sys.argv[1], num_threads=int(sys.argv[2]))
interpreter.allocate_tensors()
for _ in range(2):
    interpreter.invoke()
print(kilobytes() - before)
"""


@dataclasses.dataclass(frozen=True)
class Timing:
    """One file's measurements.

    Attributes:
        file: Its path.
        size: Height and width of the input.
        bytes: Size of the file.
        xnnpack_partitions: See `Structure`.
        minimum_ms, median_ms: Time of one inference.
        ratio: `minimum_ms` as a multiple of the first file's.
        memory_bytes: How much a process that opens and runs the file grows at its peak; None where
            the system is not Linux.
        accuracy: The first figure of the accuracy that the file says of itself; None without.
    """

    file: str
    size: tuple[int, int]
    bytes: int
    xnnpack_partitions: int
    minimum_ms: float
    median_ms: float
    ratio: float
    memory_bytes: int | None
    accuracy: float | None

    def as_json(self) -> dict[str, Any]:
        """The measurements as JSON values."""
        return dataclasses.asdict(self)


def benchmark(
    paths: Sequence[str | Path], num_threads: int = 1, rounds: int = 20, runs: int = 5
) -> list[Timing]:
    """Times files in interleaved rounds, so that a busy moment of the machine meets all of them.

    Args:
        paths: `.tflite` files.
        num_threads: Threads of an inference.
        rounds: How often the files take turns.
        runs: Inferences of a turn.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is no TFLite model, or a number is not positive.
    """
    if not paths or min(num_threads, rounds, runs) < 1:
        raise ValueError(
            "Files, threads, rounds and runs must be one or more. "
            f"Received: {len(paths)} files, {num_threads} threads, {rounds} rounds, {runs} runs."
        )
    interpreters = [open_interpreter(path, num_threads) for path in paths]
    generator = np.random.default_rng(0)
    for interpreter in interpreters:
        (entry,) = interpreter.get_input_details()
        image = generator.integers(0, 256, entry["shape"]).astype(entry["dtype"])
        interpreter.set_tensor(entry["index"], image)
        for _ in range(_WARM_UP):
            interpreter.invoke()
    times: list[list[float]] = [[] for _ in interpreters]
    for _ in range(rounds):
        for interpreter, measured in zip(interpreters, times, strict=True):
            for _ in range(runs):
                start = time.perf_counter()
                interpreter.invoke()
                measured.append(1000.0 * (time.perf_counter() - start))
    return [
        _timing(Path(path), interpreter, measured, min(times[0]), num_threads)
        for path, interpreter, measured in zip(paths, interpreters, times, strict=True)
    ]


def _timing(path: Path, interpreter, measured, first: float, num_threads: int) -> Timing:
    _, height, width, _ = interpreter.get_input_details()[0]["shape"]
    return Timing(
        file=str(path),
        size=(int(height), int(width)),
        bytes=path.stat().st_size,
        xnnpack_partitions=inspect_tflite(path).xnnpack_partitions,
        minimum_ms=min(measured),
        median_ms=float(np.median(measured)),
        ratio=min(measured) / first,
        memory_bytes=_memory(path, num_threads),
        accuracy=_accuracy(path),
    )


def _memory(path: Path, num_threads: int) -> int | None:
    if sys.platform != "linux":
        return None
    process = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROGRAM, str(path), str(num_threads)],
        capture_output=True,
        text=True,
        check=True,
    )
    return 1024 * int(process.stdout.split()[-1])


def _accuracy(path: Path) -> float | None:
    try:
        accuracy = read_description(path).get("accuracy")
    except ValueError:
        # Any file may be timed.
        return None
    return next(iter(accuracy.values()), None) if accuracy else None


def write_comparison(name: str, path: Path, size: tuple[int, int]) -> None:
    """Writes a well-known model, untrained, to compare times with.

    Args:
        name: One of `COMPARISONS`.
        path: The `.tflite` file to write.
        size: Height and width.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in COMPARISONS:
        raise ValueError(f"The comparison must be one of {COMPARISONS}. Received: {name!r}.")
    import keras

    model = keras.applications.MobileNetV2(input_shape=(*size, 3), weights=None)
    with tempfile.TemporaryDirectory(prefix="mobilevit_keras-") as folder:
        directory = Path(folder) / "serving"

        def answer(image):
            return {"probabilities": model(image / 127.5 - 1.0, training=False)}

        save_serving(answer, size, directory)
        convert("tflite", directory, path, {})


def plot(timings: Sequence[Timing], path: str | Path) -> list[str]:
    """Draws accuracy against latency and against size, for the files whose accuracy is known.

    Returns:
        The other files.

    Raises:
        ValueError: If no file's accuracy is known.
    """
    known = [timing for timing in timings if timing.accuracy is not None]
    if not known:
        raise ValueError(
            "A plot needs a file that knows its accuracy; `python -m convert summary` records it. "
            f"Received: none of {', '.join(timing.file for timing in timings)}."
        )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    panels[0].set_xlabel("milliseconds, minimum")
    panels[1].set_xlabel("megabytes")
    panels[0].set_ylabel("accuracy, %")
    for timing in known:
        for axes, value in zip(panels, (timing.minimum_ms, timing.bytes / 1e6), strict=True):
            axes.scatter(value, 100.0 * timing.accuracy)
            axes.annotate(Path(timing.file).stem, (value, 100.0 * timing.accuracy), fontsize=8)
    figure.savefig(path, dpi=150)
    return [timing.file for timing in timings if timing.accuracy is None]
