"""From a trained classifier to the start of another: a new last layer, and what stays as it is."""

from mobilevit_keras.models.backbone import MobileViTBackbone
from mobilevit_keras.models.image_classifier import MobileViTImageClassifier
from mobilevit_keras.models.preprocessing import Preprocessing

_CLASSIFIER = "head/classifier/"
_NUM_STAGES = 5


def replace_classifier(
    model: MobileViTImageClassifier,
    class_names: tuple[str, ...],
    classifier_dropout: float | None = None,
    preprocessing: Preprocessing | dict | None = None,
    **backbone_overrides,
) -> MobileViTImageClassifier:
    """Returns a new model for other classes with all of a model's weights but the last layer's.

    For the same classes in the same order the last layer stays too.

    Args:
        model: The trained classifier, which stays as it is.
        class_names: The new classes in the order of the logits.
        classifier_dropout: Dropout rate before the classifier; the model's own by default.
        preprocessing: Evaluation preprocessing; the model's own by default.
        **backbone_overrides: Arguments of `MobileViTBackbone` that replace the model's, such as
            `dropout` or `dtype`; those that change what weights there are do not fit.

    Raises:
        ValueError: If the changed backbone cannot take the weights.

    Example:
    >>> model = MobileViTImageClassifier.from_variant("mobilevit_xxs", num_classes=1000)
    >>> replace_classifier(model, ("cat", "dog")).num_classes
    2
    """
    config = {**model.backbone.get_config(), **backbone_overrides}
    replaced = MobileViTImageClassifier(
        MobileViTBackbone.from_config(config),
        len(class_names),
        model.classifier_dropout if classifier_dropout is None else classifier_dropout,
        class_names,
        model.preprocessing if preprocessing is None else preprocessing,
        name=model.name,
    )
    same_classes = tuple(class_names) == model.class_names
    old, new = (
        {
            weight.path: weight
            for weight in each.weights
            if same_classes or not weight.path.startswith(_CLASSIFIER)
        }
        for each in (model, replaced)
    )
    changed = sorted(
        path
        for path in old.keys() | new.keys()
        if path not in old or path not in new or old[path].shape != new[path].shape
    )
    if changed:
        raise ValueError(
            "The new backbone must have the old one's weights. "
            f"Received: {backbone_overrides}, which changes {len(changed)}, {changed[0]} first."
        )
    for path, weight in new.items():
        weight.assign(old[path])
    return replaced


def freeze(model: MobileViTImageClassifier, parts: str) -> None:
    """Sets which of a model's layers training leaves as they are.

    A frozen layer's batch norms use their stored statistics in training too, and keep them. Compile
    the model after this, not before.

    Args:
        model: The classifier.
        parts: "none"; "backbone", all but the expansion and the classifier; or "stages:N", the stem
            and the first N of five stages.

    Raises:
        ValueError: If `parts` is none of these.

    Example:
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
