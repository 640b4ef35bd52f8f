"""The folder of a run: what lies where, and who may write there."""

import csv
import dataclasses
import shutil
from pathlib import Path

from mobilevit_keras.files import atomic_path
from mobilevit_keras.training.checkpoints import list_checkpoints


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
        """Whether there is anything of a training here that could be lost."""
        return self.model.exists() or bool(list_checkpoints(self.checkpoints))

    def clear(self) -> list[str]:
        """Deletes what a run and its exports wrote here, and nothing else; returns the names.

        Exports are told by the report beside or in them: a file that somebody put here stays.
        """
        written = [
            self.config, self.model, self.log, self.curves,
            self.checkpoints, self.tensorboard, self.samples,
        ]  # fmt: skip
        for report in sorted(self.path.glob("*.report.json")):
            name = report.name.removesuffix(".report.json")
            exported = [self.path / f"{name}.tflite", self.path / f"{name}.labels.txt", report]
            written += [*exported, self.path / "labels.txt"]
        written += [p.parent for p in sorted(self.path.glob("*/report.json")) if _is_tfjs(p.parent)]
        cleared = []
        for path in dict.fromkeys(written):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            else:
                continue
            cleared.append(path.name)
        return cleared


def _is_tfjs(path: Path) -> bool:
    return (path / "model.json").is_file()


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
