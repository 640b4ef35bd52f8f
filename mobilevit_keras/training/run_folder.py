"""The folder of a run: what lies where, and who may write there."""

import csv
import dataclasses
from pathlib import Path

from mobilevit_keras.files import atomic_path


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths inside the folder of one training.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def model(self) -> Path:
        return self.path / "model.keras"

    @property
    def log(self) -> Path:
        return self.path / "log.csv"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def holds_a_run(self) -> bool:
        """Whether a training has begun here."""
        return self.config.exists()


def keep_log_before(log: Path, epoch: int) -> None:
    """Drops the rows of `epoch` and later from a CSV log, which a resumed run writes anew."""
    if not log.exists():
        return
    with open(log, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        rows = [row for row in reader if row["epoch"].isdigit() and int(row["epoch"]) < epoch]
    with atomic_path(log) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
