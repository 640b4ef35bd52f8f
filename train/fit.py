"""One training from its configuration: builds what `fit` takes, runs it, keeps its results."""

import contextlib
import dataclasses
from pathlib import Path

import keras
import tensorflow as tf

from mobilevit_keras.data import (
    Schedule,
    Source,
    Steps,
    TrainingPipeline,
    evaluation_dataset,
    evaluation_transform,
    open_source,
)
from mobilevit_keras.models import MobileViTImageClassifier, Preprocessing
from mobilevit_keras.models.transfer import freeze, replace_classifier
from mobilevit_keras.quantization import quantize_aware, settle_ranges
from mobilevit_keras.training.average import ExponentialMovingAverage
from mobilevit_keras.training.callbacks import (
    EpochProgress,
    ImagesPerSecond,
    LogsOfEarlierSteps,
    SaveModel,
    StepLog,
    save_model,
)
from mobilevit_keras.training.checkpoints import Checkpoints, newest_checkpoint, read_position
from mobilevit_keras.training.distillation import distill_from
from mobilevit_keras.training.distribution import (
    all_workers,
    anywhere,
    check_workers_agree,
    distribute_evaluation,
    distribute_training,
    is_chief,
    lost_workers,
    mend_fit,
    num_replicas,
    open_strategy,
)
from mobilevit_keras.training.epochs import EpochsOfAnyLength, epochs_may_end_early
from mobilevit_keras.training.optimizer import LossScaleOptimizer, paper_optimizer
from mobilevit_keras.training.plots import plot_curves
from mobilevit_keras.training.quantization_callback import FreezeRanges
from mobilevit_keras.training.run_folder import RunFolder, keep_log_before
from mobilevit_keras.training.samples import write_samples
from mobilevit_keras.weights import load_weights_or_preset
from train.config import ClassificationConfig, check_same_run, save_config

# What workers may differ in: where they write, and what they print.
_OWN = ("output", "verbose")

# What a trained model cannot change any more.
_ARCHITECTURE = ("variant", "activation", "patch_size", "use_fusion")

# Training images that the activations' ranges start from in quantization-aware training.
_RANGE_IMAGES = 256


def open_run(config: ClassificationConfig, path: Path) -> tuple[RunFolder, Path | None]:
    """Claims the run's folder; returns it with the checkpoint to go on from, if any.

    A folder where a training ended before its first checkpoint is as good as an empty one.

    Raises:
        ValueError: If another run lies there and neither `resume` nor `overwrite` says what to do.
    """
    folder = RunFolder(path)
    resume = newest_checkpoint(folder.checkpoints) if config.resume else None
    if resume is not None:
        check_same_run(config, folder.config)
        return folder, resume
    if folder.holds_a_run():
        if not config.overwrite:
            way = (
                "--resume finds no checkpoint to go on from"
                if config.resume
                else "--resume goes on with it"
            )
            raise ValueError(
                f"`--output` must not hold another run; {way}, --overwrite begins anew. "
                f"Received: {path}."
            )
        cleared = folder.clear()
        print(f"--overwrite: deleted {', '.join(cleared)} in {path}")
    path.mkdir(parents=True, exist_ok=True)
    return folder, None


def follow_run(config: ClassificationConfig, path: Path) -> tuple[RunFolder, Path | None]:
    """What `open_run` returns, for a worker that writes nothing."""
    folder = RunFolder(path)
    return folder, newest_checkpoint(folder.checkpoints) if config.resume else None


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
    before = read_position(resume).get("data", now)
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


def files_written(
    folder: RunFolder, average: ExponentialMovingAverage | None, appends: bool
) -> list[keras.callbacks.Callback]:
    """The callbacks that write the run's log and model while it goes on."""
    return [
        keras.callbacks.CSVLogger(folder.log, append=appends),
        keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False),
        SaveModel(folder.model, average),
    ]


def build_schedule(config: ClassificationConfig, num_replicas: int = 1) -> Schedule:
    """The sizes and batches of a configuration; batches can be shared between the replicas."""
    return Schedule(
        sampler=config.sampler,
        sizes=config.sizes,
        base_size=config.base_size,
        batch_size=config.batch_size,
        seed=config.seed,
        last_batch=config.last_batch,
        num_shards=num_replicas,
    )


def build_pipeline(config: ClassificationConfig, source, num_replicas: int = 1) -> TrainingPipeline:
    """The training batches of a configuration; they can be shared between the replicas."""
    return TrainingPipeline(
        source,
        build_schedule(config, num_replicas),
        augmentation=config.augmentation,
        seed=config.seed,
        strict=config.strict,
        crop_area=config.crop_area,
        horizontal_flip=config.horizontal_flip,
    )


def build_model(config: ClassificationConfig, class_names) -> MobileViTImageClassifier:
    """The model of a configuration: with fresh weights, or those of `config.weights`."""
    overrides = {} if config.dropout is None else {"dropout": config.dropout}
    preprocessing = Preprocessing(config.evaluation_short_side, config.evaluation_crop_size)
    if config.weights is not None:
        trained = load_weights_or_preset(config.weights)
        check_architecture(config, trained)
        return replace_classifier(
            trained,
            class_names,
            config.classifier_dropout,
            # Sizes are the training's; how pixels are interpolated is the weights'.
            dataclasses.replace(preprocessing, interpolation=trained.preprocessing.interpolation),
            dtype=config.precision,
            **overrides,
        )
    return MobileViTImageClassifier.from_variant(
        config.variant,
        num_classes=len(class_names),
        classifier_dropout=config.classifier_dropout,
        class_names=class_names,
        preprocessing=preprocessing,
        activation=config.activation,
        patch_size=config.patch_size,
        use_fusion=config.use_fusion,
        dtype=config.precision,
        **overrides,
    )


def check_architecture(config: ClassificationConfig, trained: MobileViTImageClassifier) -> None:
    """Raises a ValueError where the configuration asks for another network than the weights'."""
    found = {**trained.backbone.config, "variant": trained.backbone.variant}
    for field in dataclasses.fields(config):
        wanted = getattr(config, field.name)
        if field.name in _ARCHITECTURE and wanted not in (field.default, found[field.name]):
            raise ValueError(
                f"`{field.name}` comes with the weights, and {config.weights} has "
                f"{found[field.name]!r}. Received: {field.name}={wanted!r}."
            )


def quantized(
    config: ClassificationConfig, source: Source, model: MobileViTImageClassifier
) -> MobileViTImageClassifier:
    """The quantization-aware twin of a trained model; training images start its ranges."""
    prepared = dataclasses.asdict(model.preprocessing)
    # Shuffled, because folders store one class after the other.
    images = (
        source.examples("train", shuffle_seed=0)
        .map(lambda record: evaluation_transform(record["image"], **prepared))
        .ignore_errors()
        .take(_RANGE_IMAGES)
        .batch(config.evaluation_batch_size)
    )
    return quantize_aware(model, images.as_numpy_iterator())


def compile_model(
    model: MobileViTImageClassifier, config: ClassificationConfig, total_batches: int
) -> list[keras.Metric]:
    """Compiles `model` for the recipe: AdamW, warm-up and cosine, label smoothing.

    Returns:
        The metrics.
    """
    optimizer = paper_optimizer(
        total_batches,
        initial_learning_rate=config.initial_learning_rate,
        peak_learning_rate=config.peak_learning_rate,
        final_learning_rate=config.final_learning_rate,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        decay_norms_and_biases=config.decay_norms_and_biases,
        clip_norm=config.clip_norm,
        gradient_accumulation=config.gradient_accumulation,
    )
    if config.precision == "mixed_float16":
        # Keras does so by itself only where float16 is the global policy.
        optimizer = LossScaleOptimizer(optimizer)
    # A step that makes variables is traced twice, and one trace takes ten seconds.
    optimizer.build(model.trainable_variables)
    metrics = [
        keras.metrics.CategoricalAccuracy(name="top1"),
        keras.metrics.TopKCategoricalAccuracy(5, name="top5"),
    ]
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.label_smoothing
        ),
        metrics=metrics,
        jit_compile=config.jit_compile,
    )
    return metrics


def one_hot(dataset: tf.data.Dataset, num_classes: int) -> tf.data.Dataset:
    """Turns labels `(B,)` into `(B, K)`, which label smoothing and mixed labels need."""
    if dataset.element_spec[1].shape.rank == 2:
        return dataset
    return dataset.map(lambda images, labels: (images, tf.one_hot(labels, num_classes)))


def train_classifier(config: ClassificationConfig, path: Path) -> MobileViTImageClassifier:
    """Trains a classifier and fills the run's folder; returns the model with averaged weights.

    Raises:
        ValueError, OSError: If the configuration, the data or the folder does not allow it.
        ConnectionError: If another worker is gone.
        FloatingPointError: If the loss is no finite number any more.
        Preempted: After SIGTERM or SIGINT, once a checkpoint has been written.
    """
    strategy = open_strategy(config.distribute)
    writes = is_chief(strategy)
    with all_workers(strategy):
        source = open_source(config.data, seed=config.seed)
        pipeline = build_pipeline(config, source, num_replicas(strategy))
    num_images = source.num_examples("train")
    total_batches = pipeline.schedule.total_steps(config.epochs, num_images)
    check_workers_agree(
        strategy,
        {
            **{k: v for k, v in dataclasses.asdict(config).items() if k not in _OWN},
            **data_of(source),
        },
    )
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        # Not earlier: modules that are imported on the way may draw random numbers.
        keras.utils.set_random_seed(config.seed)
        model = teacher = build_model(config, source.class_names)
        if config.quantize != "none":
            model = quantized(config, source, teacher)
        freeze(model, config.freeze)
        compile_model(model, config, total_batches)
        if config.distillation:
            distill_from(teacher, model, config.distillation)
    with all_workers(strategy):
        if writes:
            folder, resume = open_run(config, path)
            save_config(config, folder.config)
        else:
            folder, resume = follow_run(config, path)
        if resume is not None:
            check_same_data(source, resume)
    check_workers_agree(strategy, {"checkpoint": None if resume is None else resume.name})
    if writes:
        print(
            f"{model.backbone.variant}: {model.count_params():,} parameters, "
            f"{len(source.class_names)} classes, {num_images:,} training and "
            f"{source.num_examples('validation'):,} validation images, "
            f"{config.epochs} epochs, {total_batches:,} steps"
        )

    num_classes = len(source.class_names)
    validation = one_hot(
        evaluation_dataset(
            source,
            "validation",
            short_side=config.evaluation_short_side,
            crop_size=config.evaluation_crop_size,
            batch_size=config.evaluation_batch_size,
        ),
        num_classes,
    )
    average = None
    if config.ema_decay:
        average = ExponentialMovingAverage(config.ema_decay)
    checkpoints = Checkpoints(
        folder.checkpoints,
        pipeline,
        average,
        every_steps=config.checkpoint_every,
        keep=config.keep_checkpoints,
        resume=resume,
        data=data_of(source),
        writes=writes,
        anywhere=anywhere(strategy),
    )

    def steps_of_epoch(epoch: int) -> Steps:
        return pipeline.schedule.epoch(epoch, num_images)

    callbacks = [
        *([] if average is None else [average]),
        LogsOfEarlierSteps(checkpoints),
        ImagesPerSecond(steps_of_epoch),
        *(files_written(folder, average, resume is not None) if writes else []),
        *([StepLog(folder.tensorboard, checkpoints, steps_of_epoch)] if writes else []),
        checkpoints,
    ]
    if config.quantize != "none":
        freezes_at = config.freeze_ranges_after
        freezes_at = total_batches // 2 if freezes_at is None else freezes_at
        callbacks.append(FreezeRanges(max(0, freezes_at - checkpoints.total_step)))
    verbose = config.verbose if writes else 0
    if verbose:
        callbacks.append(EpochProgress(pipeline.num_steps))
    if writes:
        keep_log_before(folder.log, checkpoints.epoch)
        write_samples(source, folder.samples)
    if strategy is None:
        training = one_hot(pipeline.dataset(), num_classes)
    else:
        mend_fit(model, strategy)
        training = distribute_training(
            strategy, pipeline, lambda dataset: one_hot(dataset, num_classes)
        )
        validation = distribute_evaluation(strategy, validation)
    pipeline.element_spec = training.element_spec
    with lost_workers(folder.checkpoints), pipeline.clear_errors(), epochs_may_end_early():
        model.fit(
            EpochsOfAnyLength(
                training,
                max(pipeline.num_steps(epoch) for epoch in range(config.epochs)),
            ),
            validation_data=EpochsOfAnyLength(validation, source.num_examples("validation")),
            initial_epoch=checkpoints.epoch,
            epochs=config.epochs,
            verbose=verbose,
            callbacks=callbacks,
        )
    if not writes:
        return model
    if config.quantize != "none":
        # The averages' ranges are not those of the last step.
        settle_ranges(model)
    save_model(model, folder.model)
    plot_curves(folder.log, folder.curves)
    if pipeline.corrupt.count:
        print(pipeline.corrupt)
    print(f"saved {folder.model}")
    return model
