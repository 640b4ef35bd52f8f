"""The table of a training's epochs: a CSV file."""

import csv
from pathlib import Path

import keras

from mobilevit_keras.files import atomic_path


def read_log(path: str | Path) -> list[dict[str, str]]:
    """Reads a row for each epoch; a value is "" where the epoch has none.

    Raises:
        OSError: If the file cannot be read.
    """
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_log(path: Path, rows: list[dict]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)


def keep_log_before(path: Path, epoch: int) -> None:
    """Drops the rows of `epoch` and later from a log, which a resumed run writes anew."""
    if path.exists():
        rows = read_log(path)
        kept = [row for row in rows if row["epoch"].isdigit() and int(row["epoch"]) < epoch]
        _write_log(path, kept)


class EpochLog(keras.callbacks.Callback):
    """Adds a row to a CSV file after each epoch.

    Keras's `CSVLogger` takes its columns from the first epoch it sees, which may be one without
    validation, and leaves its file open where an error or a signal ends `fit`.

    Args:
        path: The file; rows that are there stay.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        rows = read_log(self.path) if self.path.exists() else []
        _write_log(self.path, [*rows, {"epoch": epoch, **dict(sorted((logs or {}).items()))}])
