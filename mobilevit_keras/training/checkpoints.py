"""Checkpoints from which training goes on as if it had never stopped."""

import json
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from mobilevit_keras.files import atomic_path

_NAME = re.compile(r"step-(\d{8})\.npz")


class Preempted(Exception):
    """Raised out of `fit` once a checkpoint has been written after SIGTERM or SIGINT."""


def list_checkpoints(directory: str | Path) -> list[Path]:
    """The checkpoints in `directory`, oldest first."""
    return sorted(p for p in Path(directory).glob("step-*.npz") if _NAME.fullmatch(p.name))


def read_position(path: str | Path) -> dict:
    """What a checkpoint says of its place: epoch, step in it, total_step, and its `data`."""
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["position"]))


class Checkpoints(keras.callbacks.Callback):
    """Writes everything that `fit` changes, every so many steps, and starts from it again.

    A checkpoint holds the model's weights, the optimizer's variables, the averages, the states of
    the random generators, the epoch's metrics so far and the place in the data: (epoch, step). Each
    file is complete or absent, and the last `keep` stay. SIGTERM and SIGINT end `fit` by
    `Preempted` after a checkpoint at the next step; a second SIGINT ends at once.

    Args:
        directory: Where the files lie.
        pipeline: The `MultiScaleDataset` that `fit` reads; its epoch and first step are set here.
        average: The `ExponentialMovingAverage` of the same `fit`, if there is one.
        metrics: The metrics that the model was compiled with.
        every_steps: Steps between two checkpoints; one is written at every epoch's end too.
        keep: How many files stay.
        resume: A checkpoint to start from, or None.
        data: What is to be known of the data when the run goes on: a dict that JSON can hold.
        writes: Whether this process writes; of several workers one does, though all collect.
        anywhere: Takes whether a signal has come and says whether one has to any worker, so that
            all end after the same step.

    Attributes:
        restored_logs: Until the first step, the metrics that the checkpoint came with.

    Raises:
        ValueError: If `resume` was written for another model or optimizer.
    """

    def __init__(
        self,
        directory: str | Path,
        pipeline,
        average=None,
        metrics: Sequence[keras.Metric] = (),
        every_steps: int = 1000,
        keep: int = 3,
        resume: str | Path | None = None,
        data: dict | None = None,
        writes: bool = True,
        anywhere: Callable[[bool], bool] = bool,
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.pipeline = pipeline
        self.average = average
        self.metrics = metrics
        self.every_steps = every_steps
        self.keep = keep
        self.resume = None if resume is None else Path(resume)
        self.data = {} if data is None else data
        self.writes = writes
        self.anywhere = anywhere
        self.epoch, self.step, self.total_step = 0, 0, 0
        if self.resume is not None:
            position = read_position(self.resume)
            self.epoch, self.step = position["epoch"], position["step"]
            self.total_step = position["total_step"]
        self.signal_received: int | None = None
        self.restored_logs: dict[str, float] = {}

    def _metrics(self) -> list[keras.Metric]:
        # The loss comes first; the others are not listed before the first step.
        return [self.model.metrics[0], *self.metrics]

    def _variables(self) -> Iterator[tuple[str, keras.Variable]]:
        groups = {
            "model": self.model.variables,
            "metrics": [v for m in self._metrics() for v in m.variables],
            "optimizer": self.model.optimizer.variables,
            "average": [] if self.average is None else self.average.averages,
        }
        for group, variables in groups.items():
            for index, variable in enumerate(variables):
                # By place, not by name: Keras numbers unnamed layers through a process.
                yield f"{group}/{index:04d}", variable

    def save(self) -> Path:
        """Writes a checkpoint of this moment and removes those beyond `keep`; returns its path."""
        path = self.directory / f"step-{self.total_step:08d}.npz"
        position = {
            "epoch": self.epoch,
            "step": self.step,
            "total_step": self.total_step,
            "data": self.data,
        }
        # Reading a replica's own part of a metric adds it up over all workers: none may skip it.
        arrays = {name: variable.numpy() for name, variable in self._variables()}
        if not self.writes:
            return path
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, position=np.array(json.dumps(position)), **arrays)
        for old in list_checkpoints(self.directory)[: -self.keep]:
            old.unlink()
        return path

    def _load(self) -> dict[str, np.ndarray]:
        with np.load(self.resume, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "position"}
        expected = {name: tuple(variable.shape) for name, variable in self._variables()}
        found = {name: value.shape for name, value in arrays.items()}
        if expected != found:
            differing = sorted(
                name
                for name in expected.keys() | found.keys()
                if expected.get(name) != found.get(name)
            )
            raise ValueError(
                "A checkpoint must be of the same model, optimizer and options. "
                f"Received: {self.resume}, which differs in {len(differing)} variables, "
                f"first {', '.join(differing[:3])}."
            )
        return arrays

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.writes:
            self.directory.mkdir(parents=True, exist_ok=True)
        self.model.optimizer.build(self.model.trainable_variables)
        self._old_handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }

        if self.resume is not None and self.epoch >= self.params["epochs"]:
            # The training is over, no epoch will begin, and what is saved must be what was trained.
            self._restore()

    def _restore(self) -> None:
        arrays = self._load()
        for name, variable in self._variables():
            variable.assign(arrays[name])
        self.resume = None
        self.restored_logs = {
            metric.name: float(keras.ops.convert_to_numpy(metric.result()))
            for metric in self._metrics()
        }

    def _on_signal(self, number: int, frame) -> None:
        if number == signal.SIGINT and self.signal_received is not None:
            raise KeyboardInterrupt
        self.signal_received = number

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.pipeline.next_epoch = epoch
        if self.resume is not None:
            # `fit` has just reset the metrics, so this is the first moment at which all can be set.
            self._restore()
            self.pipeline.next_step = self.step
        else:
            self.epoch, self.step = epoch, 0
            self.pipeline.next_step = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.step += 1
        self.total_step += 1
        self.restored_logs = {}
        if self.anywhere(self.signal_received is not None):
            path = self.save()
            self.release_signals()
            number = self.signal_received
            cause = "another worker" if number is None else signal.Signals(number).name
            raise Preempted(
                f"stopped by {cause} after step {self.total_step}; {path} holds everything, "
                "go on with --resume"
            )
        if self.total_step % self.every_steps == 0:
            self.save()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.step = epoch + 1, 0
        self.restored_logs = {}
        self.save()

    def release_signals(self) -> None:
        """Gives the signals back to whoever had them before `fit`."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)

    def on_train_end(self, logs: dict | None = None) -> None:
        self.release_signals()
