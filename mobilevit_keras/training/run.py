"""One training from its first step or its last checkpoint to the files that it leaves."""

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from mobilevit_keras.data import EvaluationDataset, MultiScaleDataset, Source
from mobilevit_keras.models import VisionTask
from mobilevit_keras.quantization import settle_ranges
from mobilevit_keras.tasks import Task
from mobilevit_keras.training.average import ExponentialMovingAverage
from mobilevit_keras.training.callbacks import (
    EpochProgress,
    ImagesPerSecond,
    LogsOfEarlierSteps,
    StepLog,
    UnreadLogs,
)
from mobilevit_keras.training.checkpoints import Checkpoints, Preempted, read_position
from mobilevit_keras.training.distillation import distill_from
from mobilevit_keras.training.distribution import (
    all_workers,
    anywhere,
    check_workers_agree,
    has_workers,
    is_chief,
    lost_workers,
    mend_fit,
)
from mobilevit_keras.training.epoch_log import EpochLog, keep_log_before
from mobilevit_keras.training.measuring import MeasureValidation
from mobilevit_keras.training.model_file import ModelWriter, SaveBest, SaveModel
from mobilevit_keras.training.optimizer import LossScaleOptimizer
from mobilevit_keras.training.plots import plot_curves
from mobilevit_keras.training.quantization_callback import FreezeRanges
from mobilevit_keras.training.recipe import Recipe
from mobilevit_keras.training.run_folder import RunFolder
from mobilevit_keras.training.samples import write_samples

# How much better the trained weights must be than the averages to be told of: more than chance
# makes of it, and this at least.
_MARGIN = 0.05

_MOST_NAMES = 10

# Steps after which several workers ask each other whether to stop: each question waits for all.
_ASK_EVERY = 8


def compile_for(
    task: Task, model: VisionTask, recipe: Recipe, total_steps: int, teacher=None
) -> None:
    """Compiles a model for a recipe; under `tf.distribute` in the scope of its strategy.

    Args:
        task: Says what loss and metrics are.
        model: The model.
        recipe: The optimisation.
        total_steps: Batches of the whole training.
        teacher: The model whose answers are distilled, where the recipe has `distillation`.

    Raises:
        ValueError: If the recipe does not fit so many batches.
    """
    optimizer = recipe.optimizer(total_steps, model)
    if model.dtype_policy.compute_dtype == "float16":
        optimizer = LossScaleOptimizer(optimizer)
    model.compile(
        optimizer, task.loss(), metrics=task.metrics(model), jit_compile=recipe.jit_compile
    )
    if recipe.distillation:
        distill_from(task, teacher, model, recipe.distillation)


class Run:
    """Trains a model with everything that a training of hours needs, in a folder of its own.

    The folder gets the configuration, the averaged weights (`model.keras`, and those of the best
    epoch, `best.keras`), checkpoints, `log.csv`, logs for TensorBoard, `curves.png` and a few
    validation images. Nothing is written before `fit`, and everything is checked before that.

    Args:
        task: What the model is for.
        model: The model; not compiled. A quantization-aware one has its ranges frozen on the way.
        train: The training images; its `num_replicas` is the strategy's number of replicas.
        validation: The validation images.
        recipe: The optimisation.
        folder: The folder.
        teacher: The trained model whose answers are distilled.
        configuration: What the run was started with, as YAML has it; saved, and compared when the
            run goes on.
        resume: Whether to go on from the folder's last checkpoint, if there is one.
        overwrite: Whether to begin anew in a folder that holds a run, without its exports.
        validation_every: Epochs from one validation to the next; the last one has one in any case.
        checkpoint_every: Steps between checkpoints; each epoch's end has one too.
        keep_checkpoints: How many of them stay.
        strategy: The `tf.distribute` strategy that the model was made under.
        verbose: 1 a progress bar, 2 a line for each epoch, 0 silent.

    Raises:
        ValueError: If the values do not go together.
    """

    def __init__(
        self,
        task: Task,
        model: VisionTask,
        train: MultiScaleDataset,
        validation: EvaluationDataset,
        recipe: Recipe,
        folder: str | Path,
        *,
        teacher: VisionTask | None = None,
        configuration: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
        validation_every: int = 1,
        checkpoint_every: int = 1000,
        keep_checkpoints: int = 3,
        strategy: tf.distribute.Strategy | None = None,
        verbose: int = 1,
    ) -> None:
        self.task = task
        self.model = model
        self.train = train
        self.validation = validation
        self.recipe = recipe
        self.folder = RunFolder(Path(folder))
        self.configuration = dict(configuration or {})
        self.resume = resume
        self.overwrite = overwrite
        if validation_every < 1:
            raise ValueError(
                f"`validation_every` must be at least 1. Received: {validation_every}."
            )
        self.validation_every = validation_every
        self.checkpoint_every = checkpoint_every
        self.keep_checkpoints = keep_checkpoints
        self.strategy = strategy
        self.writes = is_chief(strategy)
        self.verbose = verbose if self.writes else 0
        self.total_steps = train.total_steps(recipe.epochs)
        self.average = ExponentialMovingAverage(recipe.ema_decay) if recipe.ema_decay else None
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            compile_for(task, model, recipe, self.total_steps, teacher)
        self._writer = ModelWriter(model)
        self._measured = MeasureValidation(task, model, validation) if task.measured else None

    def fit(self) -> VisionTask:
        """Trains and fills the folder; returns the model with the averaged weights.

        Raises:
            ValueError, OSError: If the data or the folder does not allow it.
            ConnectionError: If another worker is gone.
            FloatingPointError: If the loss is no finite number any more.
            Preempted: After SIGTERM or SIGINT, once a checkpoint and the model have been written.
        """
        with self.train.clear_errors(), self.validation.clear_errors():
            with all_workers(self.strategy):
                resume = self._open_folder()
            name = None if resume is None else resume.name
            check_workers_agree(self.strategy, {"checkpoint": name})
            if self.writes:
                print(self._header())
            checkpoints = self._checkpoints(resume)
            with lost_workers(self.folder.checkpoints):
                try:
                    history = self._fit(checkpoints)
                except Preempted:
                    with self._averages():
                        self._save()
                    raise
                self._compare_with_trained(history)
        self._compare_with_chance(history)
        self._save()
        if self.writes:
            self._tell()
        return self.model

    def _open_folder(self) -> Path | None:
        """Claims the folder and writes what a run begins with; returns where to go on from."""
        resume = self.folder.find_checkpoint(self.resume, self.overwrite)
        if resume is not None:
            self.folder.check_configuration(self.configuration)
            check_same_data(self.train.source, resume)
        if not self.writes:
            return resume
        if resume is None:
            self.folder.begin(self.overwrite)
        self.folder.save_configuration(self.configuration)
        if resume is None or not self.folder.samples.exists():
            write_samples(self.train.source, self.folder.samples)
        return resume

    def _header(self) -> str:
        source = self.train.source
        names = source.class_names
        sizes = ", ".join(str(size) for size, _ in self.train.schedule.scales)
        shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
        line = (
            f"{self.model.variant}: {self.model.count_params():,} parameters, {len(names)} classes "
            f"({shown}), {source.num_examples('train'):,} training and "
            f"{source.num_examples('validation'):,} validation images, {self.recipe.epochs} "
            f"epochs at {sizes} pixels, {self.total_steps:,} steps"
        )
        return f"{line}\n{source.left_out}" if source.left_out else line

    def _checkpoints(self, resume: Path | None) -> Checkpoints:
        return Checkpoints(
            self.folder.checkpoints,
            self.train,
            self.average,
            every_steps=self.checkpoint_every,
            keep=self.keep_checkpoints,
            resume=resume,
            data=data_of(self.train.source),
            writes=self.writes,
            anywhere=anywhere(self.strategy),
            ask_every=_ASK_EVERY if has_workers(self.strategy) else 1,
        )

    def _fit(self, checkpoints: Checkpoints) -> keras.callbacks.History:
        train, validation = self.train, self.validation
        if self.strategy is not None:
            mend_fit(self.model, self.strategy, train.element_spec)
            train = train.distributed(self.strategy)
            validation = validation.distributed(self.strategy)
        step_log = StepLog(self.folder.tensorboard, checkpoints, self.train.steps)
        written = []
        if self.writes:
            keep_log_before(self.folder.log, checkpoints.epoch)
            written = [*self._files_written(), step_log]
        callbacks = [
            *([] if self.average is None else [self.average]),
            LogsOfEarlierSteps(checkpoints),
            ImagesPerSecond(checkpoints, self.train.steps),
            *([] if self._measured is None else [self._measured]),
            *written,
            *([EpochProgress(self.train.num_steps)] if self.verbose else []),
            *self._freeze_ranges(checkpoints),
            checkpoints,
        ]
        try:
            return self.model.fit(
                train,
                validation_data=validation,
                validation_freq=self._validated_epochs(),
                initial_epoch=checkpoints.epoch,
                epochs=self.recipe.epochs,
                verbose=self.verbose,
                callbacks=UnreadLogs(
                    callbacks,
                    add_history=True,
                    model=self.model,
                    verbose=self.verbose,
                    epochs=self.recipe.epochs,
                    steps=None,
                ),
            )
        finally:
            checkpoints.release_signals()
            step_log.close()

    def _validated_epochs(self) -> list[int]:
        """Numbers of the epochs, counted from 1, that end with a validation."""
        epochs, every = self.recipe.epochs, self.validation_every
        return [*range(every, epochs, every), epochs]

    def _files_written(self) -> list[keras.callbacks.Callback]:
        folder = self.folder
        return [
            SaveBest(folder.best, self._writer, self.task.monitor, folder.log),
            EpochLog(folder.log),
            keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False),
            SaveModel(folder.model, self._writer),
        ]

    def _freeze_ranges(self, checkpoints: Checkpoints) -> list[keras.callbacks.Callback]:
        if self.model.form != "quantized":
            return []
        freezes_at = self.recipe.freeze_ranges_after
        freezes_at = self.total_steps // 2 if freezes_at is None else freezes_at
        return [FreezeRanges(max(0, freezes_at - checkpoints.total_step))]

    def _averages(self, averages: bool = True) -> contextlib.AbstractContextManager[None]:
        if self.average is None:
            return contextlib.nullcontext()
        return self.average.applied(averages)

    def _compare_with_trained(self, history: keras.callbacks.History) -> None:
        """Says so where the trained weights answer much better than their average."""
        averaged = history.history.get(f"val_{self.task.monitor}")
        if self.average is None or not averaged:
            return
        with self._averages(False):
            trained, averaged = self._figures()[self.task.monitor], averaged[-1]
        if self.writes and trained - averaged > max(_MARGIN, self._noise(trained, averaged)):
            print(
                f"warning: validation's {self.task.monitor} is {trained:.3f} with the trained "
                f"weights and {averaged:.3f} with their average, which is what is saved: the "
                "average reaches too far back. Train longer, or with an --ema-decay under "
                f"{self.average.last_decay:.4g}, what {self.recipe.ema_decay} has come to so far."
            )

    def _compare_with_chance(self, history: keras.callbacks.History) -> None:
        """Says so where validation shows nothing of what was learned."""
        figures = history.history.get(f"val_{self.task.monitor}")
        chance = self.task.chance(len(self.train.source.class_names))
        if self.writes and figures and figures[-1] - chance <= self._noise(chance):
            print(
                f"warning: validation's {self.task.monitor} is {figures[-1]:.3f}, about what a "
                f"model that has learned nothing gets ({chance:.3f}). Train longer, at a higher "
                "--peak-learning-rate, or from --weights of a trained model; python -m train "
                "preview draws what it is trained on."
            )

    def _noise(self, *shares: float) -> float:
        """Two standard errors of a share of so many images, or of the difference of two.

        No more of figures such as the mean IoU, which each image has a part of.
        """
        variance = sum(share * (1 - share) for share in shares)
        images = self.validation.source.num_examples("validation")
        return 2 * math.sqrt(max(0.0, variance) / images)

    def _figures(self) -> dict[str, float]:
        """What validation says of the model as it is now."""
        if self._measured is not None:
            return self._measured.measure()
        validation = self.validation
        if self.strategy is not None:
            validation = validation.distributed(self.strategy)
        return self.model.evaluate(validation, verbose=0, return_dict=True)

    def _save(self) -> None:
        if self.model.form == "quantized":
            # The averages' ranges are not those of the last step.
            settle_ranges(self.model)
        if self.writes:
            self._writer.write(self.folder.model)

    def _tell(self) -> None:
        plot_curves(self.folder.log, self.folder.curves, self.task.curves)
        for skipped in (self.train.skipped, self.validation.skipped):
            if skipped.count:
                print(skipped)
        print(f"saved {self.folder.model}")


def data_of(source: Source) -> dict:
    """What a run must find again, or be told of, when it goes on."""
    return {
        "class_names": list(source.class_names),
        "training_images": source.num_examples("train"),
    }


def check_same_data(source: Source, resume: Path) -> None:
    """Tells of images that came or went since a checkpoint was written.

    Raises:
        ValueError: If the classes are others, whose numbers the weights would mistake.
    """
    now = data_of(source)
    # The first checkpoints did not say.
    before = read_position(resume).get("data") or now
    if now["class_names"] != before["class_names"]:
        raise ValueError(
            f"A resumed run must keep its classes, {', '.join(before['class_names'][:10])}. "
            f"Received: {source} with {', '.join(now['class_names'][:10])}."
        )
    if now["training_images"] != before["training_images"]:
        print(
            f"{source} has {now['training_images']:,} training images, and had "
            f"{before['training_images']:,} when {resume.name} was written: the order of the "
            "images and the number of steps are others from here on"
        )
