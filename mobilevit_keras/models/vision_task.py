from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import keras
import numpy as np

import mobilevit_keras
from mobilevit_keras.models.backbone import MobileViTBackbone
from mobilevit_keras.models.preprocessing import Preprocessing
from mobilevit_keras.models.steps import train_step_on


class VisionTask(keras.Model):
    """What every model on a backbone is: a functional graph from images to a task's outputs.

    Subclasses build the graph, name the weights that belong to the classes (`CLASS_WEIGHTS`) and
    say what they are trained with by default (`default_loss`, `default_metrics`).

    Args:
        backbone: The `MobileViTBackbone` that the images go through.
        images: The symbolic images.
        outputs: The symbolic outputs.
        class_names: Names of the classes, or None where the model has none; saved with the weights.
        preprocessing: How images are made the model's input in evaluation, a `Preprocessing` or its
            fields as a dict; saved with the weights.
        frozen: Names of the layers that training leaves as they are; saved with the weights.
        name: Name of the model.

    Input shape: `(B, H, W, 3)`, RGB float32 in [0, 1].
    """

    CLASS_WEIGHTS: ClassVar[tuple[str, ...]] = ()
    """What the paths of the weights begin with that other classes do not fit."""

    OUTPUT_STRIDE: ClassVar[int] = 32
    """The backbone's output stride, where nobody asks for another."""

    def __init__(
        self,
        backbone: MobileViTBackbone,
        *,
        images,
        outputs,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        frozen: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        # No others: a functional model of Keras's takes any argument, and reads none.
        super().__init__(inputs=images, outputs=outputs, name=name)
        # Keras would give a functional model the policy that is global at the moment, scale no loss
        # of a float16 one, and cast a float32 one's images to half under a global half policy.
        self.dtype_policy = keras.dtype_policies.get(backbone.config["dtype"])
        self.backbone = backbone
        self.class_names = None if class_names is None else tuple(class_names)
        if preprocessing is None:
            preprocessing = Preprocessing()
        elif isinstance(preprocessing, Mapping):
            preprocessing = Preprocessing(**preprocessing)
        self.preprocessing = preprocessing
        layers = dict(_named_layers(self))
        unknown = sorted(set(frozen) - layers.keys())
        if unknown:
            raise ValueError(f"`frozen` must name layers of the model. Received: {unknown}.")
        for name in frozen:
            layers[name].trainable = False

    @classmethod
    def from_preset(
        cls,
        source: str | Path,
        num_classes: int | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> Self:
        """Opens trained weights: published, or a person's own.

        Args:
            source: A key of `mobilevit_keras.weights.PRESETS` such as "mobilevit_s.cvnets_in1k",
                downloaded at the first use; a `.keras` file; the folder of a training; or a
                checkpoint (`.pt`, `.pth`, `.bin`, `.safetensors`).
            num_classes: Number of classes to train on with, all weights but the last layer's kept;
                those of the weights by default.
            class_names: Their names, in place of `num_classes`.

        Raises:
            ValueError: If there is no such preset or file, it holds another kind of model, or
                `num_classes` and `class_names` disagree.
            OSError: If a preset cannot be downloaded; the message says where to put it by hand.
        """
        # Weights are a room above models: the package's public names lead there.
        model = mobilevit_keras.load_weights_or_preset(source)
        if not isinstance(model, cls):
            raise ValueError(
                f"{cls.__name__}.from_preset must be given weights of its own kind; "
                "`from_backbone_of` takes the backbone of a model of any. "
                f"Received: {source}, which holds a {type(model).__name__}."
            )
        if class_names is None and num_classes in (None, model.num_classes):
            return model
        return model.with_classes(class_names, num_classes)

    @classmethod
    def from_backbone_of(
        cls, model: VisionTask, num_classes: int | None = None, **arguments
    ) -> Self:
        """Builds a model whose backbone has the weights of another model's, of whatever task.

        What the task puts on the backbone starts anew.

        Args:
            model: The trained model, such as a classifier; it stays as it is.
            num_classes: Number of classes; that of `class_names` by default.
            **arguments: Further ones of this class's constructor, such as `class_names`, or of the
                backbone's, such as `output_stride` or `dtype`.

        Raises:
            ValueError: If the changed backbone has other weights.

        Example:
        >>> from mobilevit_keras import MobileViTImageClassifier, MobileViTImageSegmenter
        >>> classifier = MobileViTImageClassifier.from_variant("mobilevit_xxs")
        >>> model = MobileViTImageSegmenter.from_backbone_of(classifier, class_names=("a", "b"))
        >>> model.num_classes, model.backbone.config["output_stride"]
        (2, 16)
        """
        config = {**model.backbone.config, "output_stride": cls.OUTPUT_STRIDE}
        own = {name: value for name, value in arguments.items() if name not in config}
        config |= {name: value for name, value in arguments.items() if name in config}
        backbone = type(model.backbone)(**config, name=model.backbone.name)
        _copy_weights(model.backbone, backbone, arguments)
        return cls(backbone, num_classes, **own)

    @property
    def variant(self) -> str:
        """Name of the backbone's variant, "custom" where there is none."""
        return self.backbone.variant

    @property
    def form(self) -> str:
        """The backbone's form: "training", "deployment" or "quantized"."""
        return self.backbone.config["form"]

    def default_loss(self):
        """The loss of `compile()` without arguments."""
        raise NotImplementedError

    def default_metrics(self) -> list[keras.Metric]:
        """The metrics of `compile()` without arguments."""
        raise NotImplementedError

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs) -> None:
        """Keras's `compile`; what is left out is the task's.

        Args:
            optimizer: "auto" is AdamW at a rate of 0.0003, for fine-tuning; for the paper's recipe
                see `mobilevit_keras.training.paper_optimizer`.
            loss: "auto" is the task's own, for labels of every form its data has.
            metrics: "auto" are the task's own.
            **kwargs: See `keras.Model.compile`.
        """
        super().compile(
            keras.optimizers.AdamW(3e-4, weight_decay=0.01) if optimizer == "auto" else optimizer,
            self.default_loss() if isinstance(loss, str) and loss == "auto" else loss,
            metrics=self.default_metrics()
            if isinstance(metrics, str) and metrics == "auto"
            else metrics,
            **kwargs,
        )

    def compile_from_config(self, config: dict) -> None:
        """Compiles as a saved model was; Keras's own stands back where `compile` is overridden."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force=False):
        """Keras's own; the optimizer's variables are made before it.

        Made within the step, each is an initial value under a condition, and all of the step is
        traced twice: half a minute for the smallest model.
        """
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, *arguments):
        return train_step_on(super().train_step, *arguments)

    def preprocess(self, images) -> np.ndarray:
        """Makes what people have what the model takes: sized, cropped, scaled, as in evaluation.

        Args:
            images: One image or several: arrays `(H, W, 3)` or `(N, H, W, 3)`, RGB of 0 to 255 in
                any number type, or a list of arrays of different sizes; or paths of image files.

        Returns:
            float32 `(N, height, width, 3)` of the crop's size in [0, 1]; see `Preprocessing`.

        Raises:
            ValueError: If an array has another shape, floats are scaled to [0, 1] already, or a
                file is no image.
            OSError: If a file cannot be read.
        """
        from mobilevit_keras.data import preprocess

        return preprocess(images, **dataclasses.asdict(self.preprocessing))

    def with_classes(
        self,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
        **arguments,
    ) -> Self:
        """Returns a new model for other classes with all of this one's weights but the classes'.

        For the same classes in the same order their weights stay too.

        Args:
            class_names: The new classes in the order of the outputs.
            num_classes: Their number, where they have no names.
            **arguments: The constructor's, or the backbone's, that are to be others; None leaves
                one as it is. Those that change what weights there are do not fit.

        Raises:
            ValueError: If the changed model cannot take the weights.
        """
        config = self.get_config()
        backbone = {
            name: value for name, value in arguments.items() if name in self.backbone.config
        }
        own = {name: value for name, value in arguments.items() if name not in backbone}
        same_classes = class_names is not None and tuple(class_names) == self.class_names
        replaced = self._rebuilt(
            {
                **config,
                **{name: value for name, value in own.items() if value is not None},
                "num_classes": len(class_names) if class_names is not None else num_classes,
                "class_names": class_names,
                "frozen": (),
            },
            backbone,
        )
        left_out = () if same_classes else self.CLASS_WEIGHTS
        _copy_weights(self, replaced, arguments, left_out)
        return replaced

    def rebuilt(self, **backbone_arguments) -> Self:
        """Returns a new model of the same configuration but for some of the backbone's arguments.

        The weights are not copied.
        """
        return self._rebuilt(self.get_config(), backbone_arguments)

    def _rebuilt(self, config: dict, backbone_arguments: dict) -> Self:
        backbone = config["backbone"]
        return type(self).from_config(
            {
                **config,
                "backbone": {**backbone, "config": {**backbone["config"], **backbone_arguments}},
            }
        )

    def export(self, filepath, format: str = "tf_saved_model", **kwargs) -> None:
        """Keras's `export`, but for the formats that this package writes itself.

        Raises:
            ValueError: For "litert": `mobilevit_keras.export_tflite` writes a file that every
                runtime takes, with metadata, and compares it with the model.
        """
        if format == "litert":
            raise ValueError(
                "TFLite files are written by `mobilevit_keras.export_tflite(model, path)`, which "
                f"folds the norms, adds metadata and checks the file. Received: format={format!r}."
            )
        super().export(filepath, format=format, **kwargs)

    def get_config(self) -> dict:
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "class_names": self.class_names,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "frozen": [
                name
                for name, layer in _named_layers(self)
                if not layer.trainable and layer is not self
            ],
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict) -> Self:
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})


def _copy_weights(
    source: keras.Model, target: keras.Model, changes: Mapping, left_out: tuple[str, ...] = ()
) -> None:
    """Gives a model the weights of another by their paths.

    Args:
        source, target: The models.
        changes: In what the target was built otherwise.
        left_out: Beginnings of the paths of weights that stay as they are.

    Raises:
        ValueError: If one has a weight that the other lacks, or has in another shape.
    """
    old, new = (
        {w.path: w for w in model.weights if not w.path.startswith(left_out)}
        for model in (source, target)
    )
    changed = sorted(
        path
        for path in old.keys() | new.keys()
        if path not in old or path not in new or old[path].shape != new[path].shape
    )
    if changed:
        raise ValueError(
            "The new model must have the old one's weights. "
            f"Received: {changes}, which changes {len(changed)}, {changed[0]} first."
        )
    for path, weight in new.items():
        weight.assign(old[path])


def _named_layers(layer: keras.Layer, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yields the layers with weights inside of one by their paths; not those inside frozen ones."""
    # Keras's only listing of a layer's direct sublayers.
    for child in layer._layers:
        if isinstance(child, keras.Layer) and child.weights:
            name = f"{prefix}{child.name}"
            yield name, child
            if child.trainable:
                yield from _named_layers(child, f"{name}/")
