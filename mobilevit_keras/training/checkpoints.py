"""Checkpoints from which training goes on as if it had never stopped."""

import json
import math
import re
import signal
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from mobilevit_keras.files import atomic_path

_NAME = re.compile(r"step-(\d{8})\.npz")

STEPS_AT_ONCE = 16
"""Steps whose values are read together: reading a number waits for all that the device has to do,
also where it was computed many steps before."""


class Preempted(Exception):
    """Raised out of `fit` once a checkpoint has been written after SIGTERM or SIGINT."""


def list_checkpoints(directory: str | Path) -> list[Path]:
    """The checkpoints in `directory`, oldest first."""
    return sorted(p for p in Path(directory).glob("step-*.npz") if _NAME.fullmatch(p.name))


def newest_checkpoint(directory: str | Path) -> Path | None:
    """The last checkpoint in `directory` that is whole, or None where there are none at all.

    Those that are not, which a full or failing disk leaves, are named in what it prints.

    Raises:
        ValueError: If there are checkpoints, and none of them is whole.
    """
    saved = list_checkpoints(directory)
    for path in reversed(saved):
        problem = _problem_of(path)
        if problem is None:
            return path
        print(f"{path} cannot be read ({problem}); going on from the checkpoint before it")
    if saved:
        raise ValueError(
            f"One checkpoint must be whole to go on from. Received: {len(saved)} in {directory}, "
            "none of which can be read."
        )
    return None


def _problem_of(path: Path) -> str | None:
    """Why a checkpoint is not whole, or None."""
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged is not None:
            return f"{damaged} is damaged"
        read_position(path)
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, OSError) as error:
        return str(error)
    return None


def read_position(path: str | Path) -> dict:
    """What a checkpoint says of its place: epoch, step in it, total_step, and its `data`."""
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["position"]))


class Checkpoints(keras.callbacks.Callback):
    """Writes everything that `fit` changes, every so many steps, and starts from it again.

    A checkpoint holds the model's weights, the optimizer's variables, the averages, the states of
    the random generators, the epoch's metrics so far and the place in the data: (epoch, step). Each
    file is complete or absent, and the last `keep` stay. SIGTERM and SIGINT end `fit` by
    `Preempted` after a checkpoint at the next step or batch of validation (or the next of those at
    which the workers ask each other); a second SIGINT ends at once. A loss that is no
    finite number ends it by `FloatingPointError` within 16 steps, before a checkpoint, a validation
    or anything of the epoch's end; so does a weight before a checkpoint or an epoch's end.

    Should be the last of `fit`'s callbacks: what those after it do at an epoch's end is not done
    where the training is stopped there.

    Args:
        directory: Where the files lie.
        dataset: The `MultiScaleDataset` that `fit` reads; its epoch and first step are set here.
        average: The `ExponentialMovingAverage` of the same `fit`, if there is one.
        resume: A checkpoint to start from; "auto", the last one in `directory` that is whole, if
            there is any; or None.
        every_steps: Steps between two checkpoints; one is written at every epoch's end too.
        keep: How many files stay.
        data: What is to be known of the data when the run goes on: a dict that JSON can hold.
        writes: Whether this process writes; of several workers one does, though all collect.
        anywhere: Takes whether a signal has come and says whether one has to any worker, so that
            all end after the same step.
        ask_every: Steps, or batches of validation, from one such question to the next; one is asked
            at every epoch's end too.

    Attributes:
        epoch: The epoch that `fit` begins with or is in: its `initial_epoch`.
        restored_logs: Until the first step, the metrics that the checkpoint came with.

    Raises:
        ValueError: If `resume` was written for another model or optimizer, or with other batches.
    """

    def __init__(
        self,
        directory: str | Path,
        dataset,
        average=None,
        *,
        resume: str | Path | None = None,
        every_steps: int = 1000,
        keep: int = 3,
        data: dict | None = None,
        writes: bool = True,
        anywhere: Callable[[bool], bool] = bool,
        ask_every: int = 1,
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.dataset = dataset
        self.average = average
        self.every_steps = every_steps
        self.keep = keep
        if resume == "auto":
            resume = newest_checkpoint(self.directory)
        self.resume = None if resume is None else Path(resume)
        self.data = {} if data is None else data
        self.writes = writes
        self.anywhere = anywhere
        self.ask_every = ask_every
        self.epoch, self.step, self.total_step = 0, 0, 0
        if self.resume is not None:
            position = read_position(self.resume)
            self.epoch, self.step = position["epoch"], position["step"]
            self.total_step = position["total_step"]
            self._check_batches(position)
        self.signal_received: int | None = None
        self.restored_logs: dict[str, float] = {}
        self._old_handlers: dict[int, object] = {}
        self._losses: list[tuple[int, object]] = []
        self._steps_of_epoch = 0
        self._training = False
        self._training_metrics: dict[str, np.ndarray] = {}

    def _scales(self) -> list[list[int]] | None:
        """The batch size at each image size, by which (epoch, step) finds its images."""
        schedule = getattr(self.dataset, "schedule", None)
        return None if schedule is None else [list(scale) for scale in schedule.scales]

    def _check_batches(self, position: dict) -> None:
        # 0.1.0 did not write them.
        before, now = position.get("scales"), self._scales()
        if before is not None and now is not None and before != now:
            raise ValueError(
                "A training must go on with the batches it began with, which the number of "
                f"replicas rounds: (size, images) {before}. Received: {now}."
            )

    def _metric_variables(self) -> dict[str, keras.Variable]:
        variables = [v for metric in self.model.metrics for v in metric.variables]
        return {f"metrics/{index:04d}": v for index, v in enumerate(variables)}

    def _variables(self) -> Iterator[tuple[str, keras.Variable]]:
        groups = {
            "model": self.model.variables,
            "optimizer": self.model.optimizer.variables,
            "average": [] if self.average is None else self.average.averages,
        }
        for group, variables in groups.items():
            for index, variable in enumerate(variables):
                # By place, not by name: Keras numbers unnamed layers through a process.
                yield f"{group}/{index:04d}", variable
        yield from self._metric_variables().items()

    def save(self) -> Path:
        """Writes a checkpoint of this moment and removes those beyond `keep`; returns its path."""
        self._look_at_losses()
        path = self.directory / f"step-{self.total_step:08d}.npz"
        position = {
            "epoch": self.epoch,
            "step": self.step,
            "total_step": self.total_step,
            "scales": self._scales(),
            "data": self.data,
        }
        if self.average is None:
            arrays = self._arrays()
        else:
            position["averaged_batches"] = self.average.num_batches
            with self.average.applied(averages=False):
                arrays = self._arrays()
        self._look_at_weights(
            [value for name, value in arrays.items() if name.startswith("model/")]
        )
        if not self.writes:
            return path
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, position=np.array(json.dumps(position)), **arrays)
        for old in list_checkpoints(self.directory)[: -self.keep]:
            old.unlink()
        return path

    def _arrays(self) -> dict[str, np.ndarray]:
        # Reading a replica's own part of a metric adds it up over all workers: none may skip it.
        arrays = {name: variable.numpy() for name, variable in self._variables()}
        # While the model is validated its metrics are the validation's.
        return {**arrays, **self._training_metrics}

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
        self._training = True
        self._losses.clear()
        self._take_signals()
        if self.resume is not None and self.epoch >= self.params["epochs"]:
            # The training is over, no epoch will begin, and what is saved must be what was trained.
            self._restore()

    def _restore(self) -> None:
        self._build_metrics()
        arrays, position = self._load(), read_position(self.resume)
        if self.step == 0:
            # The last epoch's, or its validation's.
            for name, variable in self._metric_variables().items():
                arrays[name] = np.zeros(variable.shape, arrays[name].dtype)
        if self.average is None:
            self._assign(arrays)
        else:
            # 0.1.0 did not write it, and averaged from the first batch on.
            batches = position.get("averaged_batches", position["total_step"])
            self.average.num_batches = batches
            with self.average.applied(averages=False):
                self._assign(arrays)
        self.resume = None
        self.restored_logs = {}
        if self.step > 0:
            self.restored_logs = {
                name: float(keras.ops.convert_to_numpy(value))
                for name, value in self.model.get_metrics_result().items()
            }

    def _assign(self, arrays: dict[str, np.ndarray]) -> None:
        for name, variable in self._variables():
            variable.assign(arrays[name])

    def _build_metrics(self) -> None:
        """Makes the variables of the metrics, which Keras leaves to the first step."""
        metrics = self.model._compile_metrics
        if metrics is not None and not metrics.built:
            self.model._symbolic_build(data_batch=self.dataset.element_spec)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._training_metrics = {}
        self._steps_of_epoch = self.dataset.num_steps(epoch)
        self.dataset.next_epoch = epoch
        if self.resume is not None:
            # `fit` has just reset the metrics, so this is the first moment at which all can be set.
            self._restore()
            self.dataset.next_step = self.step
        else:
            self.epoch, self.step = epoch, 0
            self.dataset.next_step = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.step += 1
        self.total_step += 1
        self.restored_logs = {}
        if logs and "loss" in logs:
            self._losses.append((self.total_step, logs["loss"]))
        # At an epoch's end before anything is validated or written.
        is_last = self.step == self._steps_of_epoch
        if is_last or self.total_step % STEPS_AT_ONCE == 0:
            self._look_at_losses()
        if is_last:
            self._look_at_weights([variable.numpy() for variable in self.model.variables])
        if self.total_step % self.ask_every == 0 and self._is_to_stop():
            self._stop()
        if self.total_step % self.every_steps == 0:
            self.save()

    def _look_at_losses(self) -> None:
        losses, self._losses = self._losses, []
        for step, loss in losses:
            if not math.isfinite(loss := float(loss)):
                self._stop_at_fault(f"the loss is {loss}", step)

    def _look_at_weights(self, values: Sequence[np.ndarray]) -> None:
        """A step's loss is that of the weights before it, and says nothing of what it made."""
        for variable, value in zip(self.model.variables, values, strict=True):
            if variable.trainable and not np.isfinite(value).all():
                self._stop_at_fault(
                    f"the weight {variable.path} is no finite number", self.total_step
                )

    def _stop_at_fault(self, fault: str, step: int) -> None:
        saved = list_checkpoints(self.directory)
        last_good = saved[-1] if saved else "none was written yet"
        learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.release_signals()
        # Between two epochs it is the one that has ended.
        epoch = self.epoch + (self.step > 0)
        raise FloatingPointError(
            f"{fault} after step {step} (epoch {epoch}, learning rate "
            f"{learning_rate:.3g}); last good checkpoint: {last_good}"
        )

    def on_test_begin(self, logs: dict | None = None) -> None:
        if self._training:
            # `evaluate` resets the metrics next.
            self._training_metrics = {k: v.numpy() for k, v in self._metric_variables().items()}

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._training and batch % self.ask_every == 0 and self._is_to_stop():
            self._stop()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.step = epoch + 1, 0
        self.restored_logs = {}
        self.save()
        if self.epoch < self.params["epochs"] and self._is_to_stop():
            self._stop()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._training = False
        self._training_metrics = {}
        self.release_signals()

    def _is_to_stop(self) -> bool:
        return self.anywhere(self.signal_received is not None)

    def _stop(self) -> None:
        """Ends `fit` after a checkpoint of this moment."""
        path = self.save()
        number = self.signal_received
        self.release_signals()
        cause = "another worker" if number is None else signal.Signals(number).name
        raise Preempted(
            f"stopped by {cause} after step {self.total_step}; {path} holds everything, "
            "go on with --resume"
        )

    def _take_signals(self) -> None:
        self.release_signals()
        # Elsewhere Python lets nobody set a handler, and the main thread gets every signal.
        if threading.current_thread() is threading.main_thread():
            self._old_handlers = {
                number: signal.signal(number, self._on_signal)
                for number in (signal.SIGTERM, signal.SIGINT)
            }

    def _on_signal(self, number: int, frame) -> None:
        if not _is_fitting(self.model, frame):
            # An error has ended `fit`, and Keras tells no callback of it.
            self.release_signals()
            signal.raise_signal(number)
            return
        if number == signal.SIGINT and self.signal_received is not None:
            raise KeyboardInterrupt
        self.signal_received = number

    def release_signals(self) -> None:
        """Gives the signals back to whoever had them before `fit`."""
        self.signal_received = None
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}


def _is_fitting(model: keras.Model, frame) -> bool:
    """Whether a frame of this thread lies inside of the model's `fit`."""
    frame = sys._getframe() if frame is None else frame
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model:
            return True
        frame = frame.f_back
    return False
