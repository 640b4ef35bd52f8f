"""What `fit` prints, writes and watches while it runs."""

import math
import time
from pathlib import Path

import keras
import tensorflow as tf

from mobilevit_keras.training.checkpoints import STEPS_AT_ONCE, Checkpoints

# Seconds between two pictures of the progress bar.
_REDRAWN_AFTER = 1.0


class UnreadLogs(keras.callbacks.CallbackList):
    """Keras's list of callbacks, which leaves a step's logs on the device.

    Keras's own makes Python numbers of them for every step, and so gives the device its next step
    only when it has done the last one. Here callbacks get tensors, and those that need a number ask
    for it when they do.
    """

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        for callback in self.callbacks:
            callback.on_test_batch_end(batch, logs)


class EpochProgress(keras.callbacks.ProgbarLogger):
    """Keras's progress bar with each epoch's own number of steps, which the sizes drawn decide.

    It is drawn once a second, because its figures are waited for.

    Args:
        steps_of_epoch: Takes an epoch, returns its number of steps.
    """

    def __init__(self, steps_of_epoch) -> None:
        super().__init__()
        self.steps_of_epoch = steps_of_epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.target = self.steps_of_epoch(epoch)
        self.drawn_at = -math.inf
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if time.monotonic() - self.drawn_at >= _REDRAWN_AFTER:
            super().on_train_batch_end(batch, logs)
            self.drawn_at = time.monotonic()


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
        checkpoints: The run's `Checkpoints`, which count the steps; must come after this callback.
        steps_of_epoch: Takes an epoch, returns its `Steps`.
    """

    def __init__(self, checkpoints: Checkpoints, steps_of_epoch) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.steps_of_epoch = steps_of_epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.sizes = self.steps_of_epoch(epoch).batch_sizes
        self.began_at = time.monotonic()
        self.seconds, self.count = 0.0, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.checkpoints.step + 1 == len(self.sizes):
            # The device may be some steps behind.
            for value in (logs or {}).values():
                float(value)
        self.seconds = time.monotonic() - self.began_at
        self.count += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # A training that goes on in the middle of an epoch runs the last of its steps.
        images = int(self.sizes[len(self.sizes) - self.count :].sum())
        logs["images_per_second"] = images / self.seconds if self.count else math.nan
        logs["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )


class StepLog(keras.callbacks.Callback):
    """Writes every step's size, batch and loss so far for TensorBoard, and the run's two rates.

    The loss is Keras's, the mean of the epoch up to the step. The learning rate and images a second
    stand at the last of the steps whose losses are read together: every 16th, and an epoch's last.

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
        self.read_at = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        index, step = self.checkpoints.step, self.checkpoints.total_step + 1
        values = {
            "size": self.steps.heights[index],
            "batch": self.steps.batch_sizes[index],
            "loss": (logs or {}).get("loss", 0.0),
        }
        self.unwritten.append((step, values))
        if step % STEPS_AT_ONCE == 0 or index + 1 == len(self.steps):
            self._write()

    def _write(self) -> None:
        if not self.unwritten:
            return
        _, last = self.unwritten[-1]
        # The device has done the steps when it has told the last one's loss.
        last["loss"] = float(last["loss"])
        seconds = max(time.monotonic() - self.read_at, 1e-9)
        last["images_per_second"] = sum(of["batch"] for _, of in self.unwritten) / seconds
        last["learning_rate"] = self.model.optimizer.learning_rate
        for step, values in self.unwritten:
            with self.writer.as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(f"step/{name}", float(value))
        self.unwritten.clear()
        self.read_at = time.monotonic()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Writes what is left; where an error has ended `fit`, Keras calls nothing else."""
        if self.writer is not None:
            self._write()
            self.writer.close()
            self.writer = None
