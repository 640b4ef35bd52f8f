"""Checkpoints of CVNets, Hugging Face and timm to Keras models, and back."""

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np

from mobilevit_keras.boxes import MAX_SCALE, MIN_SCALE
from mobilevit_keras.files import atomic_path
from mobilevit_keras.layers import TRAINING
from mobilevit_keras.models import (
    VARIANTS,
    MobileViTImageClassifier,
    MobileViTImageSegmenter,
    MobileViTObjectDetector,
    Preprocessing,
    VisionTask,
    get_variant,
)
from mobilevit_keras.models.variants import STAGE2_RESIDUALS
from mobilevit_keras.paper import NUM_LAYERS
from mobilevit_keras.weights import layouts
from mobilevit_keras.weights.checkpoint_file import open_checkpoint
from mobilevit_keras.weights.layouts import Entry
from mobilevit_keras.weights.published import (
    published_arguments,
    published_class_names,
    published_preprocessing,
)
from mobilevit_keras.weights.tensors import Tensor

_LISTED = 20
_STEM_KERNEL = "stem/conv/kernel"
# Entries of our own among the texts of a safetensors file.
_CLASS_NAMES = "class_names"
_PREPROCESSING = "preprocessing"
_MODELS: dict[str, type[VisionTask]] = {
    layouts.CLASSIFICATION: MobileViTImageClassifier,
    layouts.SEGMENTATION: MobileViTImageSegmenter,
    layouts.DETECTION: MobileViTObjectDetector,
}
# Arguments of the models, beside their backbones', that other libraries' have no other values of.
_HEAD_ARGUMENTS = {MobileViTObjectDetector: {"min_scale": MIN_SCALE, "max_scale": MAX_SCALE}}
_BACKBONES = {
    layouts.MULTI_HEAD: {"num_heads": 4, "stem_filters": 16, "use_fusion": True},
    layouts.SEPARABLE: {"num_heads": 1, "use_fusion": False},
}


def to_keras(value: np.ndarray, kind: str) -> np.ndarray:
    """Returns a PyTorch tensor with its axes in Keras's order."""
    if kind == layouts.CONV_KERNEL:
        # (out, in, height, width) -> (height, width, in, out)
        return value.transpose(2, 3, 1, 0)
    if kind == layouts.DEPTHWISE_KERNEL:
        # (channels, 1, height, width) -> (height, width, channels, 1)
        return value.transpose(2, 3, 0, 1)
    if kind == layouts.DENSE_KERNEL:
        # (out, in) -> (1, 1, in, out), because dense layers over tokens are 1x1 convolutions
        return value.T[None, None]
    return value


def to_torch(value: np.ndarray, kind: str) -> np.ndarray:
    """Returns a Keras variable's values with their axes in PyTorch's order."""
    if kind == layouts.CONV_KERNEL:
        # (height, width, in, out) -> (out, in, height, width)
        return value.transpose(3, 2, 0, 1)
    if kind == layouts.DEPTHWISE_KERNEL:
        # (height, width, channels, 1) -> (channels, 1, height, width)
        return value.transpose(2, 3, 0, 1)
    if kind == layouts.DENSE_KERNEL:
        # (1, 1, in, out) -> (out, in)
        return value[0, 0].T
    return value


def _torch_shape(variable: keras.Variable, kind: str) -> tuple[int, ...]:
    # A broadcast array has a shape and no memory.
    return to_torch(np.broadcast_to(np.float32(0), variable.shape), kind).shape


def torch_shapes(variables: Mapping[str, keras.Variable], entries: Iterable[Entry]) -> dict:
    """Returns the shape that each foreign tensor must have, by name."""
    shapes: dict[str, tuple] = {}
    for entry in entries:
        rows, *rest = _torch_shape(variables[entry.variable], entry.kind)
        before = shapes.get(entry.tensor, (0,))[0]
        shapes[entry.tensor] = (before + rows, *rest)
    return shapes


def split(value: np.ndarray, entries: list[Entry], rows: list[int]) -> list[np.ndarray]:
    """Returns the parts of a foreign tensor.

    Args:
        value: The tensor.
        entries: Those of its variables, in the order of the parts.
        rows: Rows of each part.
    """
    groups, rest = entries[0].groups, value.shape[1:]
    # (rows, …) -> (groups, rows / groups, …)
    value = value.reshape(groups, -1, *rest)
    ends = np.cumsum([number // groups for number in rows])[:-1]
    return [part.reshape(-1, *rest) for part in np.split(value, ends, axis=1)]


def join(parts: list[np.ndarray], groups: int) -> np.ndarray:
    """The inverse of `split`."""
    rest = parts[0].shape[1:]
    grouped = [part.reshape(groups, -1, *rest) for part in parts]
    return np.concatenate(grouped, axis=1).reshape(-1, *rest)


def detect(tensors: Mapping[str, Tensor]) -> tuple[str, str, str]:
    """Returns the layout, the task and the attention that most of the tensors' names are of.

    The task is "classification" where no tensor of any head is there.

    Raises:
        ValueError: If there is no stem by the name of any layout.
    """
    shared = {}
    for layout, attention in itertools.product(layouts.LAYOUTS, STAGE2_RESIDUALS):
        for task in layouts.tasks(layout, attention):
            entries = layouts.table(layout, task=task, attention=attention)
            if entries[0].tensor in tensors:
                names = {entry.tensor for entry in entries}
                shared[layout, task, attention] = len(names & tensors.keys())
    if shared:
        return max(shared, key=shared.get)
    titles = ", ".join(layout.title for layout in layouts.LAYOUTS.values())
    names = ", ".join(sorted(tensors)[:3])
    raise ValueError(
        f"A checkpoint must hold a MobileViT in the layout of one of {titles}. "
        f"Received: {len(tensors)} tensors, named {names}, …"
    )


def load_checkpoint(
    path: str | Path,
    *,
    variant: str | None = None,
    channel_order: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> VisionTask:
    """Opens a checkpoint of CVNets, Hugging Face or timm as a Keras model.

    The layout and the task are found from the names, the variant and the number of classes from the
    shapes. What the file does not say is taken as the published ones have it: of 1,000 classes a
    classifier gets ImageNet's names, of 21 or 150 a segmenter VOC's or ADE20K's, of 80 a detector
    COCO's.

    Args:
        path: A `.pt`, `.pth`, `.bin` or `.safetensors` file. Nothing in it is executed.
        variant: The variant it has to be of; any by default.
        channel_order: "rgb" or "bgr": what the checkpoint's stem wants, where that is not what the
            layout's published weights want. The Keras model always wants RGB.
        preprocessing: How images are evaluated, where the file does not say it; by default as the
            layout's published weights have it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or unsafe, or if any tensor is missing, left over or of
            the wrong shape; the message lists them.

    Example:
    >>> load_checkpoint("none.pt")
    Traceback (most recent call last):
    FileNotFoundError: A checkpoint must be an existing file. Received: none.pt.
    """
    if channel_order not in (None, layouts.RGB, layouts.BGR):
        raise ValueError(f'`channel_order` must be "rgb" or "bgr". Received: {channel_order!r}.')
    if variant is not None:
        get_variant(variant)
    try:
        with open_checkpoint(path) as (tensors, texts):
            return _ported(tensors, texts, variant, channel_order, preprocessing)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _ported(
    tensors: Mapping[str, Tensor],
    texts: Mapping[str, str],
    variant: str | None,
    channel_order: str | None,
    preprocessing: Preprocessing | None,
) -> VisionTask:
    layout, task, attention = detect(tensors)
    published = layouts.LAYOUTS[layout].inputs[attention]
    tensors = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith(layouts.AUXILIARY_PREFIX)
    }
    entries = layouts.table(layout, task=task, attention=attention)
    found, exact = _closest_variant(tensors, entries, attention)
    filters = VARIANTS[found].stage_filters
    entries = layouts.table(layout, task=task, attention=attention, stage_filters=filters)
    _check_names(tensors, entries, task)
    if variant is None:
        variant = found
    elif exact and variant != found:
        raise ValueError(
            f"`variant` must be that of the checkpoint, {found!r}. Received: {variant!r}."
        )
    num_classes = _num_classes(tensors[entries[-1].tensor], entries[-1])
    class_names, stored = _stored(texts)
    if class_names is None:
        class_names = published_class_names(task, num_classes)
    model = _MODELS[task].from_variant(
        variant,
        num_classes,
        class_names=class_names,
        preprocessing=stored or preprocessing or published_preprocessing(task, published),
        **published_arguments(task, attention, num_classes),
    )
    assign(model, tensors, entries, (channel_order or published.channel_order) == layouts.BGR)
    return model


def _num_classes(tensor: Tensor, last: Entry) -> int:
    """Number of classes, from the tensor of the table's last entry; at least 1."""
    rows = _rows(tensor)
    if last.groups == 1:
        return rows
    # Of each anchor, a box's rows and those of background come first.
    return max(1, rows // last.groups - layouts.BOX_ROWS - 1)


def _rows(tensor: Tensor) -> int:
    """Length of the first axis, at least 1."""
    return max(1, *tensor.shape[:1])


def _closest_variant(
    tensors: Mapping[str, Tensor], entries: list[Entry], attention: str
) -> tuple[str, bool]:
    """Returns the variant that shares most widths with the tensors, and whether it shares all."""
    by_variable = {e.variable: tensors[e.tensor] for e in entries if e.tensor in tensors}
    stages = [f"stage{n}_0/project/conv/kernel" for n in range(1, 6)]
    transformers = [f"stage{n}_1/local_1x1/conv/kernel" for n in range(3, 6)]
    names = stages + transformers
    widths = [_rows(by_variable[name]) if name in by_variable else 0 for name in names]

    def shared(name: str) -> int:
        variant = VARIANTS[name]
        wanted = (*variant.stage_filters, *variant.transformer_dims)
        return sum(a == b for a, b in zip(widths, wanted, strict=True))

    known = [name for name, variant in VARIANTS.items() if variant.attention == attention]
    closest = max(known, key=shared)
    return closest, shared(closest) == len(widths)


def _stored(texts: Mapping[str, str]) -> tuple[tuple[str, ...] | None, Preprocessing | None]:
    """Returns the class names and the preprocessing that `save_checkpoint` wrote, if it did."""
    names = json.loads(texts[_CLASS_NAMES]) if _CLASS_NAMES in texts else None
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise ValueError(f"`{_CLASS_NAMES}` must be a list of texts. Received: {names!r}.")
    if _PREPROCESSING not in texts:
        return names, None
    try:
        return names, Preprocessing(**json.loads(texts[_PREPROCESSING]))
    except TypeError as error:
        raise ValueError(
            f"`{_PREPROCESSING}` must hold its fields. Received: {texts[_PREPROCESSING]}."
        ) from error


def _listing(title: str, lines: Iterable[str]) -> str:
    lines = sorted(lines)
    if not lines:
        return ""
    more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return f" {title}: {', '.join(lines[:_LISTED] + more)}."


def _check_names(tensors: Mapping[str, Tensor], entries: list[Entry], task: str) -> None:
    expected = {entry.tensor for entry in entries}
    missing = expected - tensors.keys()
    left_over = tensors.keys() - expected - set(layouts.batch_norm_counters(entries))
    if missing or left_over:
        raise ValueError(
            f"A checkpoint must hold the tensors of a MobileViT for {task} and no others. "
            f"Received: {len(missing)} missing, {len(left_over)} left over."
            + _listing("Missing", missing)
            + _listing("Left over", left_over)
        )


def assign(
    model: keras.Model, tensors: Mapping[str, Tensor], entries: list[Entry], flip_channels: bool
) -> None:
    """Gives every variable of a model its values, or none any.

    Args:
        model: A model whose variables' paths are those of the entries.
        tensors: Foreign tensors by name.
        entries: See `layouts.table`.
        flip_channels: Whether the stem's input channels are reversed.

    Raises:
        ValueError: If the variables are not the entries', or a tensor has the wrong shape.
    """
    variables = {variable.path: variable for variable in model.weights}
    named = {entry.variable for entry in entries}
    if named != variables.keys():
        raise ValueError(
            "The model's variables must be those of the table of names. Received:"
            + _listing("Without a name", variables.keys() - named)
            + _listing("Without a variable", named - variables.keys())
        )
    shapes = torch_shapes(variables, entries)
    wrong = [
        f"{name} {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in shapes.items()
        if tensors[name].shape != shape
    ]
    if wrong:
        raise ValueError(
            f"A checkpoint's tensors must have the shapes of {model.name}'s."
            f" Received: {len(wrong)} of other shapes." + _listing("Wrong shape", wrong)
        )
    for name, own in _by_tensor(entries).items():
        rows = [_torch_shape(variables[entry.variable], entry.kind)[0] for entry in own]
        for entry, value in zip(own, split(tensors[name].read(), own, rows), strict=True):
            value = to_keras(value, entry.kind)
            if flip_channels and entry.variable == _STEM_KERNEL:
                value = value[:, :, ::-1]
            variables[entry.variable].assign(np.ascontiguousarray(value, "float32"))


def _by_tensor(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The entries of each foreign tensor in the order of its parts."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.tensor, []).append(entry)
    return {name: sorted(own, key=lambda entry: entry.part) for name, own in found.items()}


def save_checkpoint(model: VisionTask, path: str | Path, layout: str) -> None:
    """Writes a model's weights for CVNets, transformers or timm, as a safetensors file.

    Class names and preprocessing go with it, so that `load_checkpoint` finds them again.

    Args:
        model: A model in its training form, as the paper has it but for its widths.
        path: The `.safetensors` file to write.
        layout: "timm", "huggingface" or "cvnets".

    Raises:
        ValueError: If the layout is unknown or the other libraries have no such model.
        OSError: If the file cannot be written.
    """
    import safetensors.numpy

    if layout not in layouts.LAYOUTS:
        raise ValueError(f"`layout` must be one of {list(layouts.LAYOUTS)}. Received: {layout!r}.")
    task = next((task for task, cls in _MODELS.items() if isinstance(model, cls)), None)
    if task is None:
        names = ", ".join(cls.__name__ for cls in _MODELS.values())
        raise ValueError(f"The model must be one of {names}. Received: {type(model).__name__}.")
    attention = model.backbone.config["attention"]
    filters = model.backbone.config["stage_filters"]
    entries = layouts.table(layout, task=task, attention=attention, stage_filters=filters)
    _check_expressible(model, task)
    variables = {variable.path: variable for variable in model.weights}
    flips = layouts.LAYOUTS[layout].inputs[attention].channel_order == layouts.BGR
    tensors = {}
    for name, own in _by_tensor(entries).items():
        parts = []
        for entry in own:
            value = variables[entry.variable].numpy()
            if flips and entry.variable == _STEM_KERNEL:
                value = value[:, :, ::-1]
            parts.append(to_torch(value, entry.kind))
        tensors[name] = np.ascontiguousarray(join(parts, own[0].groups), "float32")
    # A fresh PyTorch model has them, and strict loading asks for them.
    for name in layouts.batch_norm_counters(entries):
        tensors[name] = np.zeros((), "int64")
    # transformers refuses a file that does not say that its tensors are PyTorch's.
    texts = {"format": "pt", _PREPROCESSING: json.dumps(vars(model.preprocessing))}
    if model.class_names is not None:
        texts[_CLASS_NAMES] = json.dumps(model.class_names)
    with atomic_path(path) as temporary:
        safetensors.numpy.save_file(tensors, temporary, texts)


def _check_expressible(model: VisionTask, task: str) -> None:
    """Refuses what the other libraries' models cannot be set to."""
    attention = model.backbone.config["attention"]
    wanted = {
        **_HEAD_ARGUMENTS.get(type(model), {}),
        "num_layers": NUM_LAYERS,
        "patch_size": (2, 2, 2),
        **_BACKBONES[attention],
        "output_stride": model.OUTPUT_STRIDE,
        **published_arguments(task, attention, model.num_classes),
        "activation": "silu",
        "form": TRAINING,
    }
    config = {**model.get_config(), **model.backbone.config}
    if attention == layouts.SEPARABLE:
        # One number is all that their models have.
        wanted["stem_filters"] = config["stage_filters"][0] // 2
    others = {name: config[name] for name in wanted}
    others = {name: value for name, value in others.items() if value != wanted[name]}
    if others:
        raise ValueError(
            "The model must be as in the paper, because other libraries' is. Received: "
            + ", ".join(f"{name}={value!r}" for name, value in others.items())
            + "."
        )
