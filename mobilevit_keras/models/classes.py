from collections.abc import Sequence


def check_classes(num_classes: int | None, class_names: Sequence[str] | None) -> int:
    """Returns the number of classes that a model is built for.

    Raises:
        ValueError: If it is under 1, not the number of names, or neither is given.
    """
    if num_classes is None:
        if class_names is None:
            raise ValueError("`num_classes` or `class_names` must be given. Received: neither.")
        num_classes = len(class_names)
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1. Received: {num_classes}.")
    if class_names is not None and len(class_names) != num_classes:
        raise ValueError(
            "`class_names` must hold one name for each class. "
            f"Received: {len(class_names)} names, num_classes={num_classes}."
        )
    return num_classes


def class_names_of(model) -> tuple[str, ...]:
    """The model's class names; the classes' numbers where it has none."""
    if model.class_names is None:
        return tuple(str(index) for index in range(model.num_classes))
    return model.class_names
