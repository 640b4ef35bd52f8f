"""What every task must say of itself, so that no other room need know which tasks there are."""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np

from mobilevit_keras.boxes import BoxDecoding
from mobilevit_keras.models import VisionTask
from mobilevit_keras.tasks.errors import CheckError

RUNTIME, IN_FILE = "runtime", "in-file"
"""Who suppresses a detector's boxes that lie on each other: whoever runs a file, or the file."""

SUPPRESSIONS = (RUNTIME, IN_FILE)

Outputs = Mapping[str, np.ndarray]
"""What a file answers to N images: arrays `(N, …)` by the names of its outputs."""


@dataclasses.dataclass(frozen=True)
class FileOutput:
    """One output of an exported file, as its metadata describe it.

    Attributes:
        name: The output's name.
        description: What it holds, in words.
        labels: Names of the classes along its last axis, or None.
        range: Smallest and largest value; None where there are none.
        activation: Of a map of each class's logits, the function that makes probabilities of them
            and that is left to the runtime: "softmax". None of any other output.
        kind: What its numbers are: "features"; "boxes", four numbers each; or "categories", whose
            labels name its values and no axis.
    """

    name: str
    description: str
    labels: Sequence[str] | None = None
    range: tuple[float, float] | None = (0.0, 1.0)
    activation: str | None = None
    kind: str = "features"


class Comparison(abc.ABC):
    """How far a file's answers lie from Keras's."""

    @abc.abstractmethod
    def as_json(self) -> dict[str, Any]:
        """What a report holds of it; `images` is among it."""

    @abc.abstractmethod
    def summary(self) -> str:
        """It in words, for the terminal."""

    @abc.abstractmethod
    def problem(self, file_format: str, precision: str) -> str | None:
        """What makes the file wrong: a sentence, or None where it is as it should be.

        Args:
            file_format: "tflite" or "tfjs".
            precision: How the file's numbers are stored.
        """

    def check(self, file_format: str, precision: str) -> None:
        """Raises CheckError where the file is wrong; see `problem`."""
        problem = self.problem(file_format, precision)
        if problem is not None:
            raise CheckError(problem)


class Meter(abc.ABC):
    """Measures how good answers are, batch by batch."""

    @abc.abstractmethod
    def update(self, outputs: Outputs, targets) -> None:
        """Takes the answers to a batch, and what its images' records said."""

    @abc.abstractmethod
    def result(self) -> dict[str, float]:
        """The figures so far, by name; the first is the one to choose models by."""

    def details(self) -> dict[str, dict[str, float]]:
        """Further figures, each of several parts, such as those of every class: name, part."""
        return {}


class Task(abc.ABC):
    """What is asked of images. An instance holds the task's options.

    Attributes:
        name: Its name in commands, files and descriptions.
        model_class: The class of its models.
        fields: What the records of a source must hold beside the image.
        monitor: The metric that says how good a model is; larger is better.
        curves: Title and metric of the pictures beside the loss's.
        whole_targets: Whether a meter takes targets as they lie in the original images, see
            `EvaluationDataset`.
        measured: Whether `monitor` is none of `metrics` but a figure of a meter, which a training
            then asks after every epoch.
    """

    name: ClassVar[str]
    model_class: ClassVar[type[VisionTask]]
    fields: ClassVar[tuple[str, ...]]
    monitor: ClassVar[str]
    curves: ClassVar[tuple[tuple[str, str], ...]]
    whole_targets: ClassVar[bool] = False
    measured: ClassVar[bool] = False

    # Training

    def prepare(self, model: VisionTask) -> Callable | None:
        """Graph code from a batch of (images, targets) to what `fit` takes; None changes nothing.

        Args:
            model: The model to train.
        """
        return None

    @abc.abstractmethod
    def loss(self) -> keras.Loss:
        """What training makes small."""

    @abc.abstractmethod
    def metrics(self, model: VisionTask) -> list[keras.Metric]:
        """What training and validation tell of each epoch of a model.

        `monitor` is among it where the task is not `measured`.
        """

    def chance(self, num_classes: int) -> float:
        """About what `monitor` is of a model that has learned nothing."""
        return 0.0

    def distance(self, teacher, outputs, temperature: float = 1.0):
        """How far a model's outputs lie from its teacher's, as a loss, for distillation.

        Raises:
            ValueError: If the task has none.
        """
        raise ValueError(f"There is no distillation for {self.name}. Received: a teacher.")

    # Files

    def for_size(
        self, model: VisionTask, size: tuple[int, int], suppression: str = RUNTIME
    ) -> Self:
        """The task as it is for a model's files of one size.

        Args:
            model: The model.
            size: Height and width of the files' images.
            suppression: One of `SUPPRESSIONS`.

        Raises:
            ValueError: If the task has no boxes to suppress in the file.
        """
        if suppression != RUNTIME:
            raise ValueError(
                f"Only a detector's file suppresses boxes. Received: suppression={suppression!r} "
                f"for {self.name}."
            )
        return self

    def for_description(self, description: Mapping[str, Any]) -> Self:
        """The task as it is for a file that says this about itself.

        Raises:
            ValueError: If the file must be read by a rule that this version does not know.
        """
        return self

    def with_heat_map(self) -> Self:
        """The task as it is for files that also say where in an image their answer comes from.

        Raises:
            ValueError: If it gives no heat map.
        """
        raise ValueError(f"Only a classifier's file has a heat map. Received: {self.name}.")

    @property
    def decoding(self) -> BoxDecoding | None:
        """How whoever runs a file reads boxes from it; None where that is not left to them."""
        return None

    def described(self) -> dict[str, Any]:
        """What a file says beside what all files say."""
        return {}

    def call(self, model: VisionTask, images):
        """Graph code from images, as the model takes them, to what `serve` takes."""
        return model(images, training=False)

    @abc.abstractmethod
    def serve(self, outputs) -> dict[str, Any]:
        """Graph code from what `call` gives to a file's outputs, by name."""

    @contextlib.contextmanager
    def converting(self, deployed: VisionTask) -> Iterator[Callable[[Any], dict[str, Any]]]:
        """Has a model, for as long as the block, as it is to become a file.

        Args:
            deployed: The model in a form with folded norms; as it was after the block.

        Yields:
            What does for it what `serve` does for any.
        """
        yield self.serve

    @abc.abstractmethod
    def file_outputs(self, model: VisionTask) -> list[FileOutput]:
        """What the outputs of a model's file mean, in the order of `serve`."""

    @abc.abstractmethod
    def compare(self, expected: Outputs, actual: Outputs) -> Comparison:
        """Compares a file's answers with those of its Keras model.

        Raises:
            ValueError: If their shapes differ.
        """

    def compared(self, outputs: Outputs) -> Outputs:
        """Those of a file's outputs that `compare` looks at; all where it is not said otherwise."""
        return outputs

    # Evaluation, drawing and answers

    def prepare_evaluation(self, source) -> Callable | None:
        """Graph code from a batch of (images, targets) to what `meter` takes; None changes nothing.

        Args:
            source: Where the images come from.
        """
        return None

    @abc.abstractmethod
    def meter(self, class_names: Sequence[str] | None) -> Meter:
        """Returns a new meter.

        Args:
            class_names: Names of the data's classes.
        """

    def draw(self, meter: Meter, class_names: Sequence[str] | None, picture: str | Path) -> None:
        """Draws what a meter measured.

        Raises:
            ValueError: If the task draws nothing.
            OSError: If the picture cannot be written.
        """
        raise ValueError(f"There is no picture of an evaluation for {self.name}.")

    def draw_examples(
        self,
        images: Sequence[np.ndarray],
        outputs: Outputs,
        targets: Sequence[Any],
        class_names: Sequence[str] | None,
        picture: str | Path,
    ) -> None:
        """Draws images with what is true of them and what a model answers, side by side.

        Args:
            images: What the network saw of them, uint8 `(h, w, 3)`.
            outputs: The answers.
            targets: What `meter` takes of each.
            class_names: Names of the data's classes.
            picture: The file to write; its extension says the format.

        Raises:
            ValueError: If the task draws nothing, or the extension names no format.
            OSError: If the picture cannot be written.
        """
        raise ValueError(f"There is no sheet of examples for {self.name}.")

    def captions(self, target: np.ndarray, class_names: Sequence[str] | None) -> list[str]:
        """Lines to write under an image, of what its record says of it."""
        return []

    def answers(self, outputs: Outputs, class_names: Sequence[str] | None, top: int) -> list:
        """What a person is told of each image: one answer for each of the N."""
        raise ValueError(f"There are no answers in words for {self.name}.")
