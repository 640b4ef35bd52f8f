import dataclasses

import keras
from keras import ops

import mobilevit_keras
from mobilevit_keras.layers import ConvNormAct
from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, quantize, quantizer
from mobilevit_keras.layers.forms import QUANTIZED
from mobilevit_keras.layers.transformer import token_dense
from mobilevit_keras.models.backbone import MobileViTBackbone
from mobilevit_keras.models.preprocessing import Preprocessing

_MAXIMUM_EXPANSION = 960


@keras.saving.register_keras_serializable("mobilevit_keras")
class ClassifierHead(keras.layers.Layer):
    """Expansion, global average pooling, dropout and the classifier.

    Args:
        num_classes: Number of classes K.
        dropout: Rate before the classifier.
        activation: Activation of the expansion.
        form: "training", or a form with folded norms.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, K)`, logits in float32.
    """

    def __init__(
        self, num_classes: int, dropout: float, activation: str, form: str, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dropout = dropout
        self.activation = activation
        self.form = form

    def build(self, input_shape) -> None:
        filters = min(4 * input_shape[-1], _MAXIMUM_EXPANSION)
        self.expand = ConvNormAct(
            filters,
            1,
            activation=self.activation,
            form=self.form,
            name="expand",
            dtype=self.dtype_policy,
        )
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        # Logits in float32, because a loss in float16 overflows.
        self.classifier = token_dense(self.num_classes, "classifier", "float32", self.form)
        self.quantize_mean = quantizer(self.form, "mean_quantizer")
        self.quantize_logits = quantizer(self.form, "logits_quantizer")
        self.expand.build(input_shape)
        self.classifier.build((None, 1, 1, filters))
        if self.form == QUANTIZED:
            self.classifier.answer_on(self.quantize_logits)

    def call(self, inputs, training=None):
        x = self.expand(inputs, training=training)
        # (B, H, W, C) -> (B, 1, 1, C); the mean of a mixed-precision map is taken in float32.
        if self.form == QUANTIZED:
            # Else the converter puts the mean on the map's grid, which is far too coarse for it.
            x = x * FLOAT_AGAIN
        x = ops.mean(ops.cast(x, "float32"), axis=(1, 2), keepdims=True)
        x = quantize(self.quantize_mean, x)
        x = self.classifier(self.drop(x, training=training))
        x = quantize(self.quantize_logits, x)
        # (B, 1, 1, K) -> (B, K)
        return ops.reshape(x, (-1, self.num_classes))

    def compute_output_shape(self, input_shape) -> tuple:
        return (input_shape[0], self.num_classes)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dropout": self.dropout,
            "activation": self.activation,
            "form": self.form,
        }


@keras.saving.register_keras_serializable("mobilevit_keras")
class MobileViTImageClassifier(keras.Model):
    """MobileViT with its classifier: images in, logits out.

    Args:
        backbone: The `MobileViTBackbone` to classify by.
        num_classes: Number of classes K.
        classifier_dropout: Dropout rate before the classifier.
        class_names: Names of the classes in the order of the logits; saved with the weights.
        preprocessing: How images are made the model's input in evaluation, a `Preprocessing` or its
            fields as a dict; saved with the weights.

    Input shape: `(B, H, W, 3)`, RGB float32 in [0, 1].
    Output shape: `(B, K)`, logits.

    Raises:
        ValueError: If the number of names is not `num_classes`.

    Example:
    >>> model = MobileViTImageClassifier.from_variant("mobilevit_xxs", num_classes=10)
    >>> model(np.zeros((1, 64, 64, 3))).shape
    TensorShape([1, 10])

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178).
    """

    def __init__(
        self,
        backbone: MobileViTBackbone,
        num_classes: int,
        classifier_dropout: float = 0.1,
        class_names: tuple[str, ...] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        **kwargs,
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"`num_classes` must be at least 1. Received: {num_classes}.")
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                "`class_names` must hold one name for each class. "
                f"Received: {len(class_names)} names, num_classes={num_classes}."
            )
        if preprocessing is None:
            preprocessing = Preprocessing()
        elif isinstance(preprocessing, dict):
            preprocessing = Preprocessing(**preprocessing)

        # Layers
        head = ClassifierHead(
            num_classes,
            dropout=classifier_dropout,
            activation=backbone.config["activation"],
            form=backbone.config["form"],
            dtype=backbone.config["dtype"],
            name="head",
        )

        # Functional graph
        images = keras.Input(backbone.config["image_shape"], name="images")
        logits = head(backbone(images))
        super().__init__(inputs=images, outputs=logits, **kwargs)

        # Config
        self.backbone = backbone
        self.head = head
        self.num_classes = num_classes
        self.classifier_dropout = classifier_dropout
        self.class_names = None if class_names is None else tuple(class_names)
        self.preprocessing = preprocessing

    @classmethod
    def from_variant(
        cls,
        variant: str,
        num_classes: int = 1000,
        classifier_dropout: float = 0.1,
        class_names: tuple[str, ...] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        **backbone_overrides,
    ) -> "MobileViTImageClassifier":
        """Builds a classifier on "mobilevit_xxs", "mobilevit_xs" or "mobilevit_s".

        Args:
            variant: Name in `mobilevit_keras.models.VARIANTS`.
            num_classes, classifier_dropout, class_names, preprocessing: See the class.
            **backbone_overrides: Arguments of `MobileViTBackbone` that replace the variant's.

        Raises:
            ValueError: If the variant is unknown.
        """
        return cls(
            MobileViTBackbone.from_variant(variant, **backbone_overrides),
            num_classes,
            classifier_dropout,
            class_names,
            preprocessing,
            name=f"{variant}_classifier",
        )

    @classmethod
    def from_preset(cls, name: str) -> "MobileViTImageClassifier":
        """Opens published weights, downloaded at the first use.

        Args:
            name: Key of `mobilevit_keras.weights.PRESETS`, such as "mobilevit_s.cvnets_in1k".

        Raises:
            ValueError: If there is no such preset, or its file is not what was published.
            OSError: If it cannot be downloaded; the message says where to put it by hand.
        """
        # Weights are a room above models: the package's table of public names leads there.
        return mobilevit_keras.load_preset(name)

    def get_config(self) -> dict:
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "classifier_dropout": self.classifier_dropout,
            "class_names": self.class_names,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict) -> "MobileViTImageClassifier":
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})
