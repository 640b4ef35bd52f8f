"""A training by its command that is stopped on the way, and goes on."""

import os
import signal
from pathlib import Path

import numpy as np

from mobilevit_keras.models import load_model
from mobilevit_keras.training.checkpoints import Checkpoints


def check_stopped_is_whole(train, task: str, arguments, whole: Path, output: Path, monkeypatch):
    """Stops a training after its second step, resumes it, and compares its weights bit for bit.

    Args:
        train: Runs `python -m train` with its arguments; returns the exit status.
        task: The command.
        arguments: Those of the uninterrupted training, without its folder.
        whole: The uninterrupted training's folder.
        output: A new folder.
        monkeypatch: Is undone on the way.
    """
    end_of_step = Checkpoints.on_train_batch_end

    def stop_once(self, batch, logs=None):
        if self.total_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        end_of_step(self, batch, logs)

    monkeypatch.setattr(Checkpoints, "on_train_batch_end", stop_once)
    assert train(task, *arguments, "--output", output) == os.EX_TEMPFAIL
    monkeypatch.undo()
    assert train(task, "--output", output, "--resume") == 0
    expected, resumed = (
        load_model(folder / "model.keras").get_weights() for folder in (whole, output)
    )
    for a, b in zip(expected, resumed, strict=True):
        np.testing.assert_array_equal(a, b)
