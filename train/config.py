"""The configuration of a training: all that it depends on, checked."""

import dataclasses
import types
import typing

from mobilevit_keras.paper import CROP_AREA, MINIMUM_SIZE, SHORT_SIDE, SIZES, ZOOM_OUT
from mobilevit_keras.source_kinds import BOXES, LABEL, MASK, data_help
from mobilevit_keras.training.recipe import Recipe

SIZES_AND_BATCHES = ("sampler", "sizes", "base_size", "batch_size", "last_batch", "seed")


def option(default, text: str, group: str):
    """A field with its help text and the group of `--help` that it stands in."""
    return dataclasses.field(default=default, metadata={"help": text, "group": group})


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a training depends on, whatever its task.

    Attributes:
        FIELDS: The task's targets, without an import of the tasks.
        MODEL: The fields that are arguments of the task's models, where they are not None.
        BATCHES: The fields that the batches depend on, called as the dataset's arguments are.
        task: What is trained. No flag: the command's name says it.
    """

    FIELDS: typing.ClassVar[tuple[str, ...]] = ()
    MODEL: typing.ClassVar[tuple[str, ...]] = ("dropout", "use_fusion")
    BATCHES: typing.ClassVar[tuple[str, ...]] = (
        *SIZES_AND_BATCHES,
        "augmentation",
        "crop_area",
        "interpolation",
        "horizontal_flip",
        "strict",
    )

    task: str = dataclasses.field(default="", kw_only=True)
    data: str = option("", f"Images: {data_help(LABEL)}", "what to train on, and where to")
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
        "mobilevit_xxs (the default without --weights), mobilevit_xs, mobilevit_s, or "
        "mobilevitv2_050 to mobilevitv2_200 in steps of 025",
        "model",
    )
    activation: str = option("silu", "silu (the paper's) or hard_swish (faster on phones)", "model")
    patch_size: tuple[int, int, int] = option((2, 2, 2), "Patch side of stages 3, 4 and 5", "model")
    use_fusion: bool | None = option(
        None,
        "Concatenate and convolve each block's input and output; the variant's own by default",
        "model",
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
    interpolation: str = option(
        "bilinear",
        "How images are resized: bilinear or bicubic; in evaluation as --weights say, if given",
        "augmentation",
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
    head_learning_rate_factor: float = option(
        Recipe.head_learning_rate_factor,
        "How many times the rate is what the task puts on the backbone",
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
        "Of the averaged weights, which are evaluated and saved; it grows up to this for the first "
        "9 / (1 - decay) updates. 0 for none",
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

    evaluation_batch_size: int = option(64, "Images at once", "evaluation")
    validation_every: int = option(
        1, "Epochs from one validation to the next; the last epoch has one anyway", "evaluation"
    )

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
        "TF_CONFIG names); they share each batch, and machines stop together within eight steps",
        "the run",
    )
    verbose: int = option(1, "1 a progress bar, 2 a line for each epoch, 0 silent", "the run")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _checked(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
        if self.task != type(self).task:
            raise ValueError(f"`task` must be {type(self).task!r} here. Received: {self.task!r}.")
        for name, value in self.defaults().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {getattr(self, name)}.")
        for name, values in _CHOICES.items():
            if getattr(self, name, values[0]) not in values:
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

    def defaults(self) -> dict:
        """What fields that are None stand for, by name."""
        return {"variant": "mobilevit_xxs"} if self.weights is None else {}

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

    def preprocessing(self):
        """The `Preprocessing` of the trained model, which validation has too."""
        raise NotImplementedError

    def open_task(self, source=None):
        """The `Task` with its options.

        Args:
            source: The `Source` of the training images, which options may depend on.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class ClassificationConfig(Config):
    """What a training of an image classifier depends on beside that."""

    FIELDS = LABEL
    MODEL = (*Config.MODEL, "classifier_dropout")

    task: str = dataclasses.field(default="classification", kw_only=True)
    classifier_dropout: float = option(0.1, "Before the classifier", "model")
    label_smoothing: float = option(0.1, "Probability spread over all classes", "optimisation")
    evaluation_crop_size: int | None = option(
        None, "Pixels of the centre crop; base_size by default", "evaluation"
    )
    evaluation_short_side: int | None = option(
        None, "Pixels of the short side after the resize; 9/8 of the crop by default", "evaluation"
    )

    def defaults(self) -> dict:
        crop_size = self.evaluation_crop_size or self.base_size
        return {
            **super().defaults(),
            "evaluation_crop_size": crop_size,
            "evaluation_short_side": crop_size * 9 // 8,
        }

    def preprocessing(self):
        from mobilevit_keras.models import Preprocessing

        return Preprocessing(
            self.evaluation_short_side, self.evaluation_crop_size, self.interpolation
        )

    def open_task(self, source=None):
        from mobilevit_keras.tasks import Classification

        return Classification(self.label_smoothing)


@dataclasses.dataclass(frozen=True)
class DenseConfig(Config):
    """What a training on the whole of each image depends on beside that; the paper's rates."""

    BATCHES = (*Config.BATCHES, "crop", "short_side")

    augmentation: str = option(
        "photometric", "none, basic (crop and flip) or photometric (colours too)", "augmentation"
    )
    short_side: tuple[float, float] = option(
        SHORT_SIDE,
        "Of crop short_side: the image's shorter side over that of the window",
        "augmentation",
    )

    initial_learning_rate: float = option(0.00009, "At the first update", "optimisation")
    peak_learning_rate: float = option(0.0009, "After the warm-up", "optimisation")
    final_learning_rate: float = option(0.000001, "At the last update", "optimisation")
    warmup_steps: int = option(
        500, "Updates of the warm-up; at most a tenth of the whole training", "optimisation"
    )

    evaluation_size: tuple[int, ...] | None = option(
        None,
        "What the whole image is stretched to: a side, or height and width; base_size by default",
        "evaluation",
    )
    evaluation_batch_size: int = option(16, "Images at once", "evaluation")

    def defaults(self) -> dict:
        return {**super().defaults(), "evaluation_size": (self.base_size,)}

    def _check_together(self) -> None:
        super()._check_together()
        if len(self.evaluation_size) > 2 or min(self.evaluation_size, default=0) < MINIMUM_SIZE:
            raise ValueError(
                f"`evaluation_size` must be one or two numbers of at least {MINIMUM_SIZE}. "
                f"Received: {list(self.evaluation_size)}."
            )

    def preprocessing(self):
        from mobilevit_keras.models import Preprocessing

        size = self.evaluation_size
        size = size if len(size) == 2 else size[0]
        return Preprocessing(crop_size=size, interpolation=self.interpolation, resize="stretch")


@dataclasses.dataclass(frozen=True)
class SegmentationConfig(DenseConfig):
    """What a training of an image segmenter depends on beside that; the paper's optimisation."""

    FIELDS = MASK
    MODEL = (*DenseConfig.MODEL, "output_stride", "aspp_dropout", "classifier_dropout")

    task: str = dataclasses.field(default="segmentation", kw_only=True)
    data: str = option(
        "", f"Images with masks: {data_help(MASK)}", "what to train on, and where to"
    )

    output_stride: int | None = option(
        None,
        "Pixels for each cell of the logits: 8, 16 or 32; that of a segmenter in --weights, or 16",
        "model",
    )
    aspp_dropout: float | None = option(
        None, "Inside the head; by default as the authors of the variant have it", "model"
    )
    classifier_dropout: float = option(0.1, "Before the classifier, of whole channels", "model")

    sizes: tuple[int, ...] = option(
        (256, 320, 384, 448, 512), "Image sizes in pixels to draw from", "sizes and batches"
    )
    base_size: int = option(
        384, "The size at which a batch holds batch_size images", "sizes and batches"
    )
    batch_size: int = option(16, "Images of an update at the base size", "sizes and batches")

    crop: str = option(
        "short_side",
        "short_side (the image at a random size, a square window of it) or random_resized",
        "augmentation",
    )

    epochs: int = option(50, "Passes over the training images", "optimisation")
    head_learning_rate_factor: float = option(
        10.0, "How many times the rate is what the task puts on the backbone", "optimisation"
    )
    class_weights: str = option(
        "none",
        "How much a pixel of each class counts: none (all alike), balanced (of the training masks, "
        "the median class's frequency over the class's own, where it occurs) or softened (the "
        "root of that)",
        "optimisation",
    )

    def open_task(self, source=None):
        from mobilevit_keras.data import balanced_class_weights
        from mobilevit_keras.tasks import Segmentation

        if self.class_weights == "none" or source is None:
            return Segmentation()
        power = {"balanced": 1.0, "softened": 0.5}[self.class_weights]
        return Segmentation(balanced_class_weights(source, power, self.verbose))


@dataclasses.dataclass(frozen=True)
class DetectionConfig(DenseConfig):
    """What a training of an object detector depends on beside that; the paper's optimisation."""

    FIELDS = BOXES
    MODEL = (*DenseConfig.MODEL, "min_scale", "max_scale")
    BATCHES = (*DenseConfig.BATCHES, "zoom_out")

    task: str = dataclasses.field(default="detection", kw_only=True)
    data: str = option(
        "", f"Images with boxes: {data_help(BOXES)}", "what to train on, and where to"
    )

    min_scale: float | None = option(
        None,
        "Side of the smallest square anchors in sides of the image; larger where no object is "
        "small. That of a detector in --weights, or 0.1",
        "model",
    )
    max_scale: float | None = option(
        None, "The same of the largest; that of a detector in --weights, or 1.05", "model"
    )

    sizes: tuple[int, ...] | None = option(
        None,
        "Image sizes in pixels to draw from; base_size alone by default, as in the paper, because "
        "at several sizes a detector places boxes less exactly",
        "sizes and batches",
    )
    base_size: int = option(
        320, "The size at which a batch holds batch_size images", "sizes and batches"
    )
    batch_size: int = option(32, "Images of an update at the base size", "sizes and batches")

    crop: str = option(
        "sample",
        "sample (a part of the image around a box, or the image made smaller), short_side (the "
        "image at a random size, a square window of it) or random_resized",
        "augmentation",
    )
    zoom_out: float = option(
        ZOOM_OUT,
        "Of crop sample: half of the images first become a part of a black one of up to so many "
        "times their sides",
        "augmentation",
    )

    epochs: int = option(200, "Passes over the training images", "optimisation")

    def defaults(self) -> dict:
        return {**super().defaults(), "sizes": (self.base_size,)}

    def open_task(self, source=None):
        from mobilevit_keras.tasks import Detection

        return Detection()


CONFIGS: dict[str, type[Config]] = {
    config.task: config for config in (ClassificationConfig, SegmentationConfig, DetectionConfig)
}
"""The configuration of each task's training."""


_POSITIVE = (
    "evaluation_batch_size",
    "validation_every",
    "checkpoint_every",
    "keep_checkpoints",
)
_DROPOUTS = ("dropout", "classifier_dropout", "aspp_dropout")
_CHOICES = {
    "class_weights": ("none", "balanced", "softened"),
    "output_stride": (None, 8, 16, 32),
    "activation": ("silu", "hard_swish"),
    "interpolation": ("bilinear", "bicubic"),
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
        hint = kinds[0]
        kinds = typing.get_args(hint)
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
