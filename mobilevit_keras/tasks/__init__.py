"""What is asked of images, and the one table of it; a new task is one module here.

Others' own tasks join by `register`; training, evaluation and export then work for them too.
"""

import keras

from mobilevit_keras.tasks.classification import Classification
from mobilevit_keras.tasks.detection import Detection
from mobilevit_keras.tasks.errors import CheckError
from mobilevit_keras.tasks.segmentation import Segmentation
from mobilevit_keras.tasks.task import (
    IN_FILE,
    RUNTIME,
    SUPPRESSIONS,
    Comparison,
    FileOutput,
    Meter,
    Outputs,
    Task,
)

TASKS: dict[str, type[Task]] = {}


def register(task: type[Task]) -> type[Task]:
    """Adds a task to the table; works as a decorator.

    Raises:
        ValueError: If another task has its name.
    """
    if TASKS.setdefault(task.name, task) is not task:
        raise ValueError(f"A task's name must be its own. Received: {task.name!r}, which is taken.")
    return task


def get_task(name: str) -> Task:
    """Returns the task called `name`, with its default options.

    Raises:
        ValueError: If there is none; the message lists those there are.
    """
    if name not in TASKS:
        raise ValueError(f"A task must be one of {', '.join(TASKS)}. Received: {name!r}.")
    return TASKS[name]()


def task_of(model: keras.Model) -> Task:
    """Returns the task that a model is for, with its default options.

    Raises:
        ValueError: If it is for none of the table.
    """
    for task in TASKS.values():
        if isinstance(model, task.model_class):
            return task()
    raise ValueError(
        f"A model must be of one of the tasks {', '.join(TASKS)}. "
        f"Received: {type(model).__module__}.{type(model).__name__}."
    )


register(Classification)
register(Segmentation)
register(Detection)

__all__ = [
    "IN_FILE",
    "RUNTIME",
    "SUPPRESSIONS",
    "TASKS",
    "CheckError",
    "Classification",
    "Comparison",
    "Detection",
    "FileOutput",
    "Meter",
    "Outputs",
    "Segmentation",
    "Task",
    "get_task",
    "register",
    "task_of",
]
