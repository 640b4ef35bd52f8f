"""Time and memory of opening a MobileViT-S checkpoint, in a process that has imported the package.

    python benchmarks/opening.py [CHECKPOINT]

Without a file, a random one of 1,000 classes is written by the package itself. Exits with status 1
where opening takes 3 seconds or more, or memory grows by 4 times the file's size or more.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SECONDS, TIMES = 3.0, 4.0


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(path: Path) -> int:
    """Opens a checkpoint and prints what it took; returns 1 above the limits."""
    from mobilevit_keras.weights import load_checkpoint

    before, started = resident(), time.perf_counter()
    load_checkpoint(path)
    seconds = time.perf_counter() - started
    # The highest point since the process began, which imports may have reached before.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 - before
    size = path.stat().st_size / 1e6
    print(f"{path.name}: {size:.1f} MB, {seconds:.2f} s, {peak:.0f} MB, {peak / size:.1f} times")
    return int(seconds >= SECONDS or peak >= TIMES * size)


def make(path: Path) -> None:
    """Writes a random checkpoint."""
    from mobilevit_keras import MobileViTImageClassifier
    from mobilevit_keras.weights import save_checkpoint

    save_checkpoint(MobileViTImageClassifier.from_variant("mobilevit_s"), path, "timm")


def main(arguments: list[str]) -> int:
    """Measures in a process of its own, which nothing else has grown."""
    if arguments[:1] in (["--measure"], ["--make"]):
        path = Path(arguments[1])
        return measure(path) if arguments[0] == "--measure" else make(path) or 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__]
        if arguments:
            path = Path(arguments[0])
        else:
            path = Path(folder) / "mobilevit_s.safetensors"
            subprocess.run([*command, "--make", path], check=True)
        return subprocess.run([*command, "--measure", path], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
