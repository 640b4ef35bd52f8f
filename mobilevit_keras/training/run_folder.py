"""The folder of a run: what lies where, and who may write there."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mobilevit_keras.files import atomic_path
from mobilevit_keras.training.checkpoints import list_checkpoints, newest_checkpoint

# What a resumed run may change without becoming another one.
_CHANGEABLE = (
    "output",
    "verbose",
    "checkpoint_every",
    "keep_checkpoints",
    "strict",
    "validation_every",
)


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
    def best(self) -> Path:
        return self.path / "best.keras"

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

    def find_checkpoint(self, resume: bool, overwrite: bool) -> Path | None:
        """Returns the checkpoint to go on from, or None where a training begins; changes nothing.

        A folder where a training ended before its first checkpoint is as good as an empty one.

        Args:
            resume: Whether to go on with what is here.
            overwrite: Whether to begin anew in a folder that holds a run.

        Raises:
            ValueError: If another run lies here, and neither says what to do.
        """
        checkpoint = newest_checkpoint(self.checkpoints) if resume else None
        if checkpoint is None and self.holds_a_run() and not overwrite:
            way = "--resume goes on with it"
            if resume:
                way = "--resume finds no checkpoint to go on from"
            raise ValueError(
                f"`--output` must not hold another run; {way}, --overwrite begins anew. "
                f"Received: {self.path}."
            )
        return checkpoint

    def begin(self, overwrite: bool) -> None:
        """Makes the folder ready for a training from its first step.

        Args:
            overwrite: Whether to delete the exports of an earlier run too.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        cleared = self._clear(self._exports() if overwrite else [])
        if overwrite and cleared:
            print(f"--overwrite: deleted {', '.join(cleared)} in {self.path}")

    def _exports(self) -> list[Path]:
        """What exports wrote here: told by the report beside or in them, so that others' stay."""
        exports = []
        for report in sorted(self.path.glob("*.report.json")):
            name = report.name.removesuffix(".report.json")
            exports += [self.path / f"{name}.tflite", self.path / f"{name}.labels.txt", report]
            exports.append(self.path / "labels.txt")
        reports = sorted(self.path.glob("*/report.json"))
        return exports + [p.parent for p in reports if (p.parent / "model.json").is_file()]

    def _clear(self, more: list[Path]) -> list[str]:
        """Deletes what a run wrote here, and `more`, and nothing else; returns the names."""
        files = [self.config, self.model, self.best, self.log, self.curves]
        folders = [self.checkpoints, self.tensorboard, self.samples]
        cleared = []
        for path in dict.fromkeys([*files, *folders, *more]):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            else:
                continue
            cleared.append(path.name)
        return cleared

    def save_configuration(self, values: Mapping[str, Any]) -> None:
        """Writes what the run was started with; as a recipe it repeats the run."""
        with atomic_path(self.config) as temporary:
            temporary.write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")

    def check_configuration(self, values: Mapping[str, Any]) -> None:
        """Raises a ValueError that names the first value that differs from the run's own."""
        saved = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        for name, now in values.items():
            # A run of an earlier version does not know every name.
            before = saved.get(name, now)
            if name not in _CHANGEABLE and now != before:
                raise ValueError(
                    f"A resumed run must keep its configuration, and {self.config} has "
                    f"{name}={before!r}. Received: {name}={now!r}."
                )
