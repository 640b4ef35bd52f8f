"""From a trained model to the start of another: a new last layer, and what stays as it is."""

from collections.abc import Sequence

from mobilevit_keras.models.preprocessing import Preprocessing
from mobilevit_keras.models.vision_task import VisionTask

_NUM_STAGES = 5


def replace_classifier(
    model: VisionTask,
    class_names: Sequence[str],
    classifier_dropout: float | None = None,
    preprocessing: Preprocessing | dict | None = None,
    **backbone_overrides,
) -> VisionTask:
    """Returns a new model for other classes with all of a model's weights but the last layer's.

    For the same classes in the same order the last layer stays too.

    Args:
        model: The trained model, which stays as it is.
        class_names: The new classes in the order of the logits.
        classifier_dropout: Dropout rate before the classifier; the model's own by default.
        preprocessing: Evaluation preprocessing; the model's own by default.
        **backbone_overrides: Arguments of `MobileViTBackbone` that replace the model's, such as
            `dropout` or `dtype`; those that change what weights there are do not fit.

    Raises:
        ValueError: If the changed backbone cannot take the weights.

    Example:
    >>> from mobilevit_keras import MobileViTImageClassifier
    >>> model = MobileViTImageClassifier.from_variant("mobilevit_xxs", num_classes=1000)
    >>> replace_classifier(model, ("cat", "dog")).num_classes
    2
    """
    return model.with_classes(
        class_names,
        classifier_dropout=classifier_dropout,
        preprocessing=preprocessing,
        **backbone_overrides,
    )


def freeze(model: VisionTask, parts: str) -> None:
    """Sets which of a model's layers training leaves as they are.

    A frozen layer's batch norms use their stored statistics in training too, and keep them. Compile
    the model after this, not before.

    Args:
        model: The model.
        parts: "none"; "backbone", all but what the task puts on it; or "stages:N", the stem
            and the first N of five stages.

    Raises:
        ValueError: If `parts` is none of these.

    Example:
    >>> from mobilevit_keras import MobileViTImageClassifier
    >>> model = MobileViTImageClassifier.from_variant("mobilevit_xxs", num_classes=2)
    >>> freeze(model, "stages:2")
    >>> [layer.trainable for layer in model.backbone.layers[1:7]]
    [False, False, False, False, False, True]
    """
    choices = {"none": -1, "backbone": _NUM_STAGES}
    choices |= {f"stages:{number}": number for number in range(1, _NUM_STAGES + 1)}
    if parts not in choices:
        raise ValueError(
            f'`parts` must be "none", "backbone" or "stages:1" to "stages:{_NUM_STAGES}". '
            f"Received: {parts!r}."
        )
    for layer in model.backbone.layers:
        # Layers are called "images", "stem", and then "stage1_0" to "stage5_1".
        stage = int(layer.name[len("stage")]) if layer.name.startswith("stage") else 0
        layer.trainable = stage > choices[parts]
