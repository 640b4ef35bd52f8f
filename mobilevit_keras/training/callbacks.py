"""What `fit` prints, writes and watches while it runs."""

import math
import time
from pathlib import Path

import keras
import tensorflow as tf

from mobilevit_keras.training.checkpoints import Checkpoints

# Steps whose values are read together.
_STEPS_AT_ONCE = 16


class EpochProgress(keras.callbacks.ProgbarLogger):
    """Keras's progress bar with each epoch's own number of steps, which the sizes drawn decide.

    Args:
        steps_of_epoch: Takes an epoch, returns its number of steps.
    """

    def __init__(self, steps_of_epoch) -> None:
        super().__init__()
        self.steps_of_epoch = steps_of_epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.target = self.steps_of_epoch(epoch)
        super().on_epoch_begin(epoch, logs)


class LogsOfEarlierSteps(keras.callbacks.Callback):
    """Completes the logs of an epoch that went on after its last step, which Keras finds empty.

    Args:
        checkpoints: The run's `Checkpoints`; must come after this callback in the list.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        super().__init__()
        self.checkpoints = checkpoints

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs.update(self.checkpoints.restored_logs)


class ImagesPerSecond(keras.callbacks.Callback):
    """Adds images_per_second and learning_rate to the epoch's logs.

    Args:
        steps_of_epoch: Takes an epoch, returns its `Steps`.
    """

    def __init__(self, steps_of_epoch) -> None:
        super().__init__()
        self.steps_of_epoch = steps_of_epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.began_at = time.monotonic()
        self.seconds, self.count = 0.0, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.seconds = time.monotonic() - self.began_at
        self.count += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # A training that goes on in the middle of an epoch runs the last of its steps.
        sizes = self.steps_of_epoch(epoch).batch_sizes
        images = int(sizes[len(sizes) - self.count :].sum())
        logs["images_per_second"] = images / self.seconds if self.count else math.nan
        logs["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )


class StepLog(keras.callbacks.Callback):
    """Writes every step for TensorBoard: size, batch, images a second, rate, and the loss so far.

    The loss is Keras's, the mean of the epoch up to the step.

    Args:
        directory: Where TensorBoard looks; the events come into a folder of their own in it.
        checkpoints: The run's `Checkpoints`, which count the steps; must come after this callback.
        steps_of_epoch: Takes an epoch, returns its `Steps`.
    """

    def __init__(self, directory: str | Path, checkpoints: Checkpoints, steps_of_epoch) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.checkpoints = checkpoints
        self.steps_of_epoch = steps_of_epoch
        self.writer = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.writer = tf.summary.create_file_writer(str(self.directory / "steps"))
        self.unwritten: list[tuple[int, dict]] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.steps = self.steps_of_epoch(epoch)
        self.ended_at = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now, index = time.monotonic(), self.checkpoints.step
        values = {
            "size": self.steps.heights[index],
            "batch": self.steps.batch_sizes[index],
            "images_per_second": self.steps.batch_sizes[index] / max(now - self.ended_at, 1e-9),
            "learning_rate": keras.ops.copy(self.model.optimizer.learning_rate),
            "loss": (logs or {}).get("loss", 0.0),
        }
        self.ended_at = now
        self.unwritten.append((self.checkpoints.total_step + 1, values))
        if len(self.unwritten) == _STEPS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        # Reading a number waits for the device, which may be some steps behind.
        for step, values in self.unwritten:
            with self.writer.as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(f"step/{name}", float(value))
        self.unwritten.clear()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._write()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Writes what is left; where an error has ended `fit`, Keras calls nothing else."""
        if self.writer is not None:
            self._write()
            self.writer.close()
            self.writer = None
