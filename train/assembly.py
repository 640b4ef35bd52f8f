"""From a configuration to the run that it describes."""

import contextlib
import dataclasses

import keras

from mobilevit_keras.data import (
    EvaluationDataset,
    MultiScaleDataset,
    Source,
    open_source,
    take_images,
)
from mobilevit_keras.models import VisionTask, freeze
from mobilevit_keras.quantization import quantize_aware
from mobilevit_keras.training import Run
from mobilevit_keras.training.distribution import (
    all_workers,
    check_workers_agree,
    num_replicas,
    open_strategy,
)
from mobilevit_keras.training.run import data_of
from mobilevit_keras.weights import load_weights_or_preset
from train.config import Config

# What a trained model cannot change any more.
_ARCHITECTURE = ("variant", "activation", "patch_size", "use_fusion")

# What workers may differ in: where they write, and what they print.
_OWN = ("output", "verbose")

# Training images that the activations' ranges start from in quantization-aware training.
_RANGE_IMAGES = 256


def open_run(config: Config) -> Run:
    """Builds everything that a training needs, and writes nothing.

    Raises:
        ValueError, OSError: If the configuration or the data do not allow it.
    """
    strategy = open_strategy(config.distribute)
    with all_workers(strategy):
        source = open_training_source(config)
        train = MultiScaleDataset(
            source,
            num_replicas=num_replicas(strategy),
            **{name: getattr(config, name) for name in config.BATCHES},
        )
        validation = EvaluationDataset(
            source,
            **dataclasses.asdict(config.preprocessing()),
            batch_size=config.evaluation_batch_size,
            strict=config.strict,
        )
        task = config.open_task(source)
    values = {key: value for key, value in config.saved().items() if key not in _OWN}
    check_workers_agree(strategy, {**values, **data_of(source)})
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        # Not earlier: modules that are imported on the way may draw random numbers.
        keras.utils.set_random_seed(config.seed)
        model = teacher = build_model(config, source.class_names)
        if config.quantize != "none":
            model = quantized(config, source, teacher)
        freeze(model, config.freeze)
    # Only now, though mistakes in the batches are told of before a model is built.
    train.prepare = validation.prepare = task.prepare(model)
    return Run(
        task,
        model,
        train,
        validation,
        config.recipe(),
        config.output,
        teacher=teacher,
        configuration=config.saved(),
        resume=config.resume,
        overwrite=config.overwrite,
        validation_every=config.validation_every,
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
        strategy=strategy,
        verbose=config.verbose,
    )


def open_training_source(config: Config) -> Source:
    """The source of a configuration, with the targets that its task needs."""
    return open_source(
        config.data,
        fields=config.open_task().fields,
        shuffle_buffer=config.shuffle_buffer,
    )


def build_model(config: Config, class_names) -> VisionTask:
    """The model of a configuration: with fresh weights, or those of `config.weights`.

    Weights of another task's model, such as a classifier's, start the backbone.

    Raises:
        ValueError: If the weights are of another architecture, or not what `quantize` starts from.
    """
    model_class = config.open_task().model_class
    preprocessing = config.preprocessing()
    own = {name: getattr(config, name) for name in config.MODEL}
    own = {name: value for name, value in own.items() if value is not None}
    own["dtype"] = config.precision
    if config.weights is None:
        return model_class.from_variant(
            config.variant,
            class_names=class_names,
            preprocessing=preprocessing,
            activation=config.activation,
            patch_size=config.patch_size,
            **own,
        )
    trained = load_weights_or_preset(config.weights)
    check_architecture(config, trained)
    # Sizes are the training's; how pixels are interpolated is the weights'.
    own["preprocessing"] = dataclasses.replace(
        preprocessing, interpolation=trained.preprocessing.interpolation
    )
    if isinstance(trained, model_class):
        return trained.with_classes(class_names, **own)
    if config.quantize != "none":
        raise ValueError(
            f"`quantize` starts from a trained {model_class.__name__}. "
            f"Received: {config.weights}, which holds a {type(trained).__name__}."
        )
    return model_class.from_backbone_of(trained, class_names=class_names, **own)


def check_architecture(config: Config, trained: VisionTask) -> None:
    """Raises a ValueError where the configuration asks for another network than the weights'."""
    found = {**trained.backbone.config, "variant": trained.variant}
    for field in dataclasses.fields(config):
        wanted = getattr(config, field.name)
        if field.name in _ARCHITECTURE and wanted not in (field.default, found[field.name]):
            raise ValueError(
                f"`{field.name}` comes with the weights, and {config.weights} has "
                f"{found[field.name]!r}. Received: {field.name}={wanted!r}."
            )


def quantized(config: Config, source: Source, model: VisionTask) -> VisionTask:
    """The quantization-aware twin of a trained model; training images start its ranges."""
    images, _ = take_images(source, "train", model.preprocessing, _RANGE_IMAGES)
    size = config.evaluation_batch_size
    batches = (images[start : start + size] for start in range(0, len(images), size))
    return quantize_aware(model, batches)
