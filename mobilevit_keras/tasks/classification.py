"""Which of the classes an image is of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import keras
import numpy as np
from keras import ops

from mobilevit_keras.metrics import CrossEntropy, TopAccuracy, confusion_matrix
from mobilevit_keras.models import MobileViTImageClassifier, VisionTask, class_names_of
from mobilevit_keras.tasks.heat_maps import ExplainedComparison, HeatMapComparison
from mobilevit_keras.tasks.probabilities import ProbabilityComparison
from mobilevit_keras.tasks.task import Comparison, FileOutput, Meter, Outputs, Task

OUTPUT_NAME = "probabilities"
HEAT_MAP_NAME = "heat_map"


class AccuracyMeter(Meter):
    """Top-1 and top-5 accuracy; keeps all answers, which are small.

    Attributes:
        labels: Classes of the images so far, `(N,)`.
        probabilities: Their answers, `(N, K)`.
    """

    def __init__(self) -> None:
        self._labels: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []

    def update(self, outputs: Outputs, targets) -> None:
        targets = np.asarray(targets)
        self._labels.append(targets.argmax(-1) if targets.ndim == 2 else targets)
        self._probabilities.append(np.asarray(outputs[OUTPUT_NAME]))

    @property
    def labels(self) -> np.ndarray:
        return np.concatenate(self._labels)

    @property
    def probabilities(self) -> np.ndarray:
        return np.concatenate(self._probabilities)

    def top(self, k: int) -> float:
        """Fraction of the images whose class is among the `k` most probable ones."""
        # A stable sort gives ties to the lower class, on every machine.
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float((best == self.labels[:, None]).any(axis=1).mean())

    def result(self) -> dict[str, float]:
        return {"top1": self.top(1), "top5": self.top(5)}


class Classification(Task):
    """Image classification: one label an image, logits `(B, K)`, a file gives probabilities.

    Args:
        label_smoothing: Probability that training spreads over all classes.
        heat_map: Whether a file also gives the score of each class at each place before pooling.

    Raises:
        ValueError: If `label_smoothing` is out of its range.
    """

    name = "classification"
    model_class = MobileViTImageClassifier
    fields = ("label",)
    monitor = "top1"
    curves = (("Top-1 accuracy", "top1"),)

    def __init__(self, label_smoothing: float = 0.0, heat_map: bool = False) -> None:
        self.label_smoothing = label_smoothing
        self.heat_map = heat_map
        self.loss()

    def loss(self) -> keras.Loss:
        return CrossEntropy(self.label_smoothing)

    def chance(self, num_classes: int) -> float:
        return 1.0 / num_classes

    def metrics(self, model: VisionTask) -> list[keras.Metric]:
        return [TopAccuracy(1), TopAccuracy(5)]

    def distance(self, teacher, outputs, temperature: float = 1.0):
        target = ops.stop_gradient(ops.softmax(teacher / temperature))
        answer = ops.log_softmax(ops.cast(outputs, "float32") / temperature)
        # The square keeps the gradients' size independent of the temperature.
        return -(temperature**2) * ops.mean(ops.sum(target * answer, axis=-1))

    def with_heat_map(self) -> Self:
        return type(self)(self.label_smoothing, heat_map=True)

    def call(self, model: VisionTask, images):
        return model.with_heat_map(images) if self.heat_map else super().call(model, images)

    def serve(self, outputs) -> dict:
        if not self.heat_map:
            return {OUTPUT_NAME: ops.softmax(outputs)}
        return {
            OUTPUT_NAME: ops.softmax(outputs["logits"]),
            HEAT_MAP_NAME: outputs["heat_map"],
        }

    def file_outputs(self, model: VisionTask) -> list[FileOutput]:
        # What clients that know of no heat map take comes first.
        outputs = [FileOutput(OUTPUT_NAME, "Probability of each class", class_names_of(model))]
        if self.heat_map:
            # Without names: MediaPipe would take each of its numbers for a class.
            text = "Score of each class at each place; the logits are their mean over the places"
            outputs.append(FileOutput(HEAT_MAP_NAME, text, range=None))
        return outputs

    def compare(self, expected: Outputs, actual: Outputs) -> Comparison:
        probabilities = ProbabilityComparison(expected[OUTPUT_NAME], actual[OUTPUT_NAME])
        if not self.heat_map:
            return probabilities
        heat_map = HeatMapComparison(expected[HEAT_MAP_NAME], actual[HEAT_MAP_NAME])
        return ExplainedComparison(probabilities, heat_map)

    def compared(self, outputs: Outputs) -> Outputs:
        return outputs if self.heat_map else {OUTPUT_NAME: outputs[OUTPUT_NAME]}

    def meter(self, class_names: Sequence[str] | None) -> AccuracyMeter:
        return AccuracyMeter()

    def draw(self, meter: Meter, class_names: Sequence[str] | None, picture: str | Path) -> None:
        from mobilevit_keras.tasks.pictures import plot_confusion

        answers = meter.probabilities.argmax(axis=1)
        matrix = confusion_matrix(meter.labels, answers, len(class_names))
        plot_confusion(matrix, class_names, picture, f"{np.trace(matrix)} of {len(answers)} right")

    def captions(self, target: np.ndarray, class_names: Sequence[str] | None) -> list[str]:
        """Names a label, or the two largest parts of a mixed one."""
        if target.ndim == 0:
            return [class_names[int(target)]]
        largest = [index for index in np.argsort(-target)[:2] if target[index] > 0.005]
        # The share first: where there is no room, the line's end is left out.
        return [f"{100 * target[index]:.0f}% {class_names[index]}" for index in largest]

    def answers(self, outputs: Outputs, class_names: Sequence[str] | None, top: int) -> list:
        """For each image its `(class name, probability)` pairs, most probable first."""
        answers = []
        for row in outputs[OUTPUT_NAME]:
            names = class_names or [str(index) for index in range(len(row))]
            best = np.argsort(-row, kind="stable")[:top]
            answers.append([(names[index], float(row[index])) for index in best])
        return answers
