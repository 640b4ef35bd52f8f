"""Writing a model in training to a file, and when."""

import time
from pathlib import Path

import keras

from mobilevit_keras.files import atomic_path
from mobilevit_keras.layers.fake_quant import quantizers_of
from mobilevit_keras.quantization import settle_ranges
from mobilevit_keras.training.epoch_log import read_log


class ModelWriter:
    """Writes a model in training so that a file is the old one or the new one, never a part.

    A file holds the model alone: the optimizer's state, twice as large, is the checkpoints'.

    Args:
        model: The model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._twin: keras.Model | None = None

    def write(self, path: str | Path) -> None:
        """Writes the model as it is now; what is quantized computes as its exported file will.

        Raises:
            OSError: If the file cannot be written.
        """
        if self._twin is None:
            self._twin = type(self.model).from_config(self.model.get_config())
        self._twin.set_weights(self.model.get_weights())
        if quantizers_of(self._twin):
            # The averages' ranges are not those of the last step.
            settle_ranges(self._twin)
        with atomic_path(path) as temporary:
            self._twin.save(temporary)


class SaveModel(keras.callbacks.Callback):
    """Keeps a file current: the averaged weights, at most once in `every_seconds`.

    Args:
        path: The file.
        writer: The `ModelWriter` of `fit`'s model. Of the averages where an
            `ExponentialMovingAverage` comes before this in the list of callbacks.
        every_seconds: Least time between two saves at epoch ends.
    """

    def __init__(self, path: str | Path, writer: ModelWriter, every_seconds: float = 60.0) -> None:
        super().__init__()
        self.path = Path(path)
        self.writer = writer
        self.every_seconds = every_seconds
        self.saved_at = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if time.monotonic() - self.saved_at >= self.every_seconds:
            self.writer.write(self.path)
            self.saved_at = time.monotonic()


class SaveBest(keras.callbacks.Callback):
    """Keeps the model of the epoch whose validation was the best.

    Args:
        path: The file.
        writer: The `ModelWriter` of `fit`'s model, as for `SaveModel`.
        monitor: The metric of validation that decides; larger is better.
        log: The training's `EpochLog`; a training that goes on reads there how good the file is.
    """

    def __init__(self, path: str | Path, writer: ModelWriter, monitor: str, log: Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.writer = writer
        self.monitor = f"val_{monitor}"
        self.log = log

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.best = float("-inf")
        if self.path.exists() and self.log.exists():
            values = [row.get(self.monitor) for row in read_log(self.log)]
            self.best = max([self.best, *(float(value) for value in values if value)])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        value = (logs or {}).get(self.monitor)
        if value is not None and value > self.best:
            self.best = value
            self.writer.write(self.path)
