"""The configuration of a training: a recipe's values, then the command line's over them."""

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Collection
from pathlib import Path

import yaml

from mobilevit_keras.paper import CROP_AREA, SIZES
from mobilevit_keras.source_kinds import DATA_HELP
from mobilevit_keras.training.recipe import Recipe

RECIPES = Path(__file__).parent / "recipes"


def option(default, text: str, group: str):
    """A field with its help text and the group of `--help` that it stands in."""
    return dataclasses.field(default=default, metadata={"help": text, "group": group})


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a training depends on, whatever its task.

    Attributes:
        MODEL: The fields of a subclass that are arguments of its task's models.
    """

    MODEL: typing.ClassVar[tuple[str, ...]] = ()

    data: str = option(
        "",
        f"Images: {DATA_HELP}",
        "what to train on, and where to",
    )
    shuffle_buffer: int | None = option(
        None,
        "Records in the shuffle buffer of tfds: and tfrecord: sources, 4,096 by default",
        "what to train on, and where to",
    )
    output: str = option(
        "",
        "Folder of the run: model.keras, best.keras, log.csv, curves.png, checkpoints, config.yaml",
        "what to train on, and where to",
    )
    resume: bool = option(
        False,
        "Go on from the last checkpoint in the output folder; begin where there is none yet",
        "what to train on, and where to",
    )
    overwrite: bool = option(
        False,
        "Begin anew in an output folder that holds a run already; what it and its exports wrote "
        "there is deleted",
        "what to train on, and where to",
    )

    weights: str | None = option(
        None,
        "Start from a trained model: a .keras file, a checkpoint (.pt, .bin, .safetensors) or the "
        "name of a preset; its classifier is replaced where the classes differ",
        "model",
    )
    freeze: str = option(
        "none", "What training leaves as it is: none, backbone or stages:N", "model"
    )
    variant: str | None = option(
        None,
        "mobilevit_xxs (the default without --weights), mobilevit_xs or mobilevit_s",
        "model",
    )
    activation: str = option("silu", "silu (the paper's) or hard_swish (faster on phones)", "model")
    patch_size: tuple[int, int, int] = option((2, 2, 2), "Patch side of stages 3, 4 and 5", "model")
    use_fusion: bool = option(
        True, "Concatenate and convolve each block's input and output", "model"
    )
    dropout: float | None = option(
        None, "Inside the transformers; the variant's own by default", "model"
    )

    sampler: str = option(
        "multi_scale_variable_batch",
        "multi_scale_variable_batch, multi_scale (one batch size) or fixed",
        "sizes and batches",
    )
    sizes: tuple[int, ...] = option(
        SIZES, "Image sizes in pixels to draw from", "sizes and batches"
    )
    base_size: int = option(
        256, "The size at which a batch holds batch_size images", "sizes and batches"
    )
    batch_size: int = option(128, "Images of an update at the base size", "sizes and batches")
    last_batch: str = option(
        "fill", "Fill an epoch's short last batch from its start, or drop it", "sizes and batches"
    )

    augmentation: str = option(
        "basic", "none, basic (random resized crop and flip) or advanced", "augmentation"
    )
    crop_area: tuple[float, float] = option(
        CROP_AREA, "Part of an image that a random crop covers", "augmentation"
    )
    horizontal_flip: bool = option(
        True, "Mirror half of the images (wrong for digits and text)", "augmentation"
    )
    strict: bool = option(
        False, "Stop at the first unreadable image instead of skipping it", "augmentation"
    )

    epochs: int = option(Recipe.epochs, "Passes over the training images", "optimisation")
    initial_learning_rate: float = option(
        Recipe.initial_learning_rate, "At the first update", "optimisation"
    )
    peak_learning_rate: float = option(
        Recipe.peak_learning_rate, "After the warm-up", "optimisation"
    )
    final_learning_rate: float = option(
        Recipe.final_learning_rate, "At the last update", "optimisation"
    )
    warmup_steps: int = option(
        Recipe.warmup_steps,
        "Updates of the warm-up; at most a tenth of the whole training",
        "optimisation",
    )
    weight_decay: float = option(Recipe.weight_decay, "AdamW's, on every parameter", "optimisation")
    decay_norms_and_biases: bool = option(
        Recipe.decay_norms_and_biases,
        "Whether weight decay covers norms and biases too",
        "optimisation",
    )
    ema_decay: float = option(
        Recipe.ema_decay,
        "Of the averaged weights, which are evaluated and saved; 0 for none",
        "optimisation",
    )
    clip_norm: float | None = option(
        Recipe.clip_norm, "Largest global norm of the gradients", "optimisation"
    )
    gradient_accumulation: int = option(
        Recipe.gradient_accumulation, "Batches for each update", "optimisation"
    )
    precision: str = option("float32", "float32, mixed_float16 or mixed_bfloat16", "optimisation")
    jit_compile: bool = option(
        Recipe.jit_compile,
        "Compile the step by XLA (one compilation for each image size)",
        "optimisation",
    )

    evaluation_crop_size: int | None = option(
        None, "Pixels of the centre crop; base_size by default", "evaluation"
    )
    evaluation_short_side: int | None = option(
        None, "Pixels of the short side after the resize; 9/8 of the crop by default", "evaluation"
    )
    evaluation_batch_size: int = option(64, "Images at once", "evaluation")

    quantize: str = option(
        "none",
        "Train on with int8 fake-quantization from the float model in --weights: none or int8",
        "quantization",
    )
    freeze_ranges_after: int | None = option(
        Recipe.freeze_ranges_after,
        "Steps before the activations' ranges are frozen; half of all by default",
        "quantization",
    )
    distillation: float = option(
        Recipe.distillation,
        "Share of the float model's answers in the loss, 0 to 1",
        "quantization",
    )

    seed: int = option(0, "Of weights, order, sizes, crops and dropout", "the run")
    checkpoint_every: int = option(
        1000, "Steps between checkpoints; each epoch's end has one too", "the run"
    )
    keep_checkpoints: int = option(3, "How many of them stay", "the run")
    distribute: str = option(
        "none",
        "none, mirrored (all devices of this machine) or multi_worker (those of the machines that "
        "TF_CONFIG names); they share each batch",
        "the run",
    )
    verbose: int = option(1, "1 a progress bar, 2 a line for each epoch, 0 silent", "the run")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _checked(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
        if self.variant is None and self.weights is None:
            object.__setattr__(self, "variant", "mobilevit_xxs")
        if self.evaluation_crop_size is None:
            object.__setattr__(self, "evaluation_crop_size", self.base_size)
        if self.evaluation_short_side is None:
            object.__setattr__(self, "evaluation_short_side", self.evaluation_crop_size * 9 // 8)
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {getattr(self, name)}.")
        for name, values in _CHOICES.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"`{name}` must be one of {values}. Received: {getattr(self, name)!r}."
                )
        for name in _DROPOUTS:
            if not 0 <= (getattr(self, name, None) or 0) < 1:
                raise ValueError(
                    f"`{name}` must be from 0 up to, not including, 1. "
                    f"Received: {getattr(self, name)}."
                )
        self._check_together()
        self.recipe()

    def _check_together(self) -> None:
        if self.freeze != "none" and self.weights is None:
            raise ValueError(
                "`freeze` keeps what trained weights know. "
                f"Received: freeze={self.freeze!r}, no `weights`."
            )
        if self.quantize == "none" and (self.distillation or self.freeze_ranges_after is not None):
            raise ValueError(
                "`distillation` and `freeze_ranges_after` go with `quantize`. "
                "Received: quantize='none'."
            )
        if self.quantize != "none":
            self._check_quantize()
        # Keras clips and accumulates the gradients of each replica before they are added up.
        if self.distribute != "none" and (self.clip_norm or self.gradient_accumulation > 1):
            raise ValueError(
                "`distribute` goes with neither `clip_norm` nor `gradient_accumulation`. Received: "
                f"distribute={self.distribute!r}, clip_norm={self.clip_norm}, "
                f"gradient_accumulation={self.gradient_accumulation}."
            )

    def _check_quantize(self) -> None:
        if self.weights is None:
            raise ValueError("`quantize` starts from a trained model. Received: no `weights`.")
        if self.distribute != "none":
            raise ValueError(
                "`quantize` runs on one device so far. "
                f"Received: quantize={self.quantize!r}, distribute={self.distribute!r}."
            )
        if self.precision != "float32":
            raise ValueError(
                "`quantize` trains in float32. "
                f"Received: quantize={self.quantize!r}, precision={self.precision!r}."
            )

    def recipe(self) -> Recipe:
        """The optimisation."""
        fields = dataclasses.fields(Recipe)
        return Recipe(**{field.name: getattr(self, field.name) for field in fields})

    def saved(self) -> dict:
        """The final configuration as YAML has it; as a recipe it repeats the run."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
            if key not in ("resume", "overwrite")
        }

    def task(self):
        """The `Task` with its options."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class ClassificationConfig(Config):
    """What a training of an image classifier depends on beside that."""

    MODEL = ("classifier_dropout",)

    classifier_dropout: float = option(0.1, "Before the classifier", "model")
    label_smoothing: float = option(0.1, "Probability spread over all classes", "optimisation")

    def task(self):
        from mobilevit_keras.tasks import Classification

        return Classification(self.label_smoothing)


_POSITIVE = (
    "evaluation_batch_size",
    "checkpoint_every",
    "keep_checkpoints",
)
_DROPOUTS = ("dropout", "classifier_dropout")
_CHOICES = {
    "activation": ("silu", "hard_swish"),
    "precision": ("float32", "mixed_float16", "mixed_bfloat16"),
    "quantize": ("none", "int8"),
    "distribute": ("none", "mirrored", "multi_worker"),
    "verbose": (0, 1, 2),
}


def _checked(name: str, value, hint):
    """Returns `value` as the field's type has it, or raises a ValueError; YAML has no tuples."""
    kinds = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint, kinds = kinds[0], ()
    if typing.get_origin(hint) is tuple:
        repeats = kinds[1:] == (Ellipsis,)
        if isinstance(value, list | tuple) and (repeats or len(value) == len(kinds)):
            return tuple(_checked(name, item, kinds[0]) for item in value)
        rule = f"a list of {kinds[0].__name__}s" if repeats else f"a list of {len(kinds)} numbers"
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    else:
        rule = f"of type {hint.__name__}"
    raise ValueError(f"`{name}` must be {rule}. Received: {value!r}.")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project."""
    paths = (path.relative_to(RECIPES) for path in RECIPES.rglob("*.yaml"))
    return sorted(path.as_posix().removesuffix(".yaml") for path in paths)


def load_recipe(name: str, smoke: bool = False) -> dict:
    """Reads a recipe: one of the project's by name, or a person's own by its path.

    A recipe's `base` names another one that its values come over.

    Args:
        name: "digits", or "path/to/recipe.yaml".
        smoke: Whether the recipe's `smoke` values, which make it run in seconds, come over it.

    Returns:
        Values by field of `ClassificationConfig`.

    Raises:
        ValueError: If there is no such recipe, or it holds a key that nothing reads.
    """
    values, smoke_values = _read_recipe(name, ())
    return {**values, **smoke_values} if smoke else values


def _read_recipe(name: str, above: tuple[Path, ...]) -> tuple[dict, dict]:
    """A recipe's values and its smoke values; `above` are the recipes that it is the base of."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(
            f"`--recipe` must be one of {recipe_names()} or a YAML file. Received: {name!r}."
        )
    if path in above:
        raise ValueError(f"A recipe must not be its own `base`. Received: {path}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"A recipe must be YAML. Received: {path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"A recipe must map names to values. Received: {path}.")
    base = values.pop("base", None)
    smoke_values = values.pop("smoke", None) or {}
    check_keys({**smoke_values, **values}, path)
    if base is None:
        return values, smoke_values
    base_values, base_smoke_values = _read_recipe(str(base), (*above, path))
    return {**base_values, **values}, {**base_smoke_values, **smoke_values}


def check_keys(values: dict, path: Path) -> None:
    """Raises a ValueError that names the first key that is no field of the configuration."""
    known = [field.name for field in dataclasses.fields(ClassificationConfig)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"A recipe's keys must be known. Received: {key!r} in {path}{hint}")


def add_arguments(parser: argparse.ArgumentParser, names: Collection[str] | None = None) -> None:
    """Adds flags for the fields, `--like-this`; flags that are not given leave no attribute.

    Args:
        parser: The parser.
        names: The fields; all by default.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    defaults = ClassificationConfig()
    hints = typing.get_type_hints(ClassificationConfig)
    for field in dataclasses.fields(ClassificationConfig):
        if names is not None and field.name not in names:
            continue
        name = field.metadata["group"]
        group = groups.setdefault(name, parser.add_argument_group(name))
        default = getattr(defaults, field.name)
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text = field.metadata["help"] + ("" if default in (None, "") else f" (default: {shown})")
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            help=text.replace("%", "%%"),
            default=argparse.SUPPRESS,
            **_argument(hints[field.name]),
        )


SIZES_AND_BATCHES = ("sampler", "sizes", "base_size", "batch_size", "last_batch", "seed")

# The fields that the batches depend on, called as the dataset's arguments are.
BATCHES = (*SIZES_AND_BATCHES, "augmentation", "crop_area", "horizontal_flip", "strict")


def add_recipe_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--recipe`."""
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"where the values come from: {', '.join(recipe_names())}, or a YAML file",
    )


def _argument(hint) -> dict:
    """What argparse needs to know of a field's type."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    members = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        count = "+" if members[1:] == (Ellipsis,) else len(members)
        return {"type": members[0], "nargs": count, "metavar": "N"}
    if isinstance(hint, types.UnionType):
        hint = next(member for member in members if member is not type(None))
    return {"type": hint, "metavar": {str: "NAME"}.get(hint, "N")}


def from_options(values: dict, options: argparse.Namespace) -> ClassificationConfig:
    """The configuration: the recipe's values with the flags that were given over them."""
    names = {field.name for field in dataclasses.fields(ClassificationConfig)}
    given = {name: value for name, value in vars(options).items() if name in names}
    return ClassificationConfig(**{**values, **given})
