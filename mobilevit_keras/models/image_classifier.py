from collections.abc import Sequence
from typing import Self

import keras
from keras import ops

from mobilevit_keras.layers import ConvNormAct
from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, quantize, quantizer
from mobilevit_keras.layers.forms import QUANTIZED
from mobilevit_keras.layers.transformer import token_dense
from mobilevit_keras.metrics import CrossEntropy, TopAccuracy
from mobilevit_keras.models.backbone import MobileViTBackbone
from mobilevit_keras.models.classes import check_classes
from mobilevit_keras.models.preprocessing import Preprocessing
from mobilevit_keras.models.vision_task import VisionTask

IMAGENET_CLASSES = 1000
_MAXIMUM_EXPANSION = 960


@keras.saving.register_keras_serializable("mobilevit_keras")
class ClassifierHead(keras.layers.Layer):
    """Expansion, global average pooling, dropout and the classifier.

    Args:
        num_classes: Number of classes K.
        dropout: Rate before the classifier.
        activation: Activation of the expansion.
        form: "training", or a form with folded norms.
        use_expansion: Whether there is the expansion, which MobileViTv2 lacks.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, K)`, logits in float32.
    """

    def __init__(
        self,
        num_classes: int,
        dropout: float,
        activation: str,
        form: str,
        use_expansion: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dropout = dropout
        self.activation = activation
        self.form = form
        self.use_expansion = use_expansion

    def build(self, input_shape) -> None:
        filters = input_shape[-1]
        if self.use_expansion:
            filters = min(4 * filters, _MAXIMUM_EXPANSION)
            self.expand = ConvNormAct(
                filters,
                1,
                activation=self.activation,
                form=self.form,
                name="expand",
                dtype=self.dtype_policy,
            )
            self.expand.build(input_shape)
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        # Logits in float32, because a loss in float16 overflows.
        self.classifier = token_dense(self.num_classes, "classifier", "float32", self.form)
        self.quantize_mean = quantizer(self.form, "mean_quantizer")
        self.quantize_logits = quantizer(self.form, "logits_quantizer")
        self.classifier.build((None, 1, 1, filters))
        if self.form == QUANTIZED:
            self.classifier.answer_on(self.quantize_logits)

    def call(self, inputs, training=None):
        return self._pooled(self._features(inputs, training), training)

    def with_heat_map(self, inputs) -> dict:
        """The logits, and the score of each class at each place, whose mean over places they are.

        The classifier is linear behind the mean, so it may as well stand in front of it. In the
        form "quantized" the scores are computed in float, from the same features: they need no grid
        of their own, which would have to hold the largest of them.

        Args:
            inputs: `(B, H, W, C)`, what the head is called with.

        Returns:
            {"logits": `(B, K)`, "heat_map": `(B, H, W, K)`}, float32.
        """
        features = self._features(inputs, training=False)
        scores = ops.conv(features, self.classifier.kernel, padding="valid")
        heat_map = ops.add(scores, self.classifier.bias)
        return {"logits": self._pooled(features, training=False), "heat_map": heat_map}

    def _features(self, inputs, training):
        """What the mean is taken of, `(B, H, W, C)`, in float32 whatever the precision."""
        x = self.expand(inputs, training=training) if self.use_expansion else inputs
        if self.form == QUANTIZED:
            # Else the converter puts the mean on the map's grid, which is far too coarse for it.
            x = x * FLOAT_AGAIN
        return ops.cast(x, "float32")

    def _pooled(self, features, training):
        # (B, H, W, C) -> (B, 1, 1, C)
        x = ops.mean(features, axis=(1, 2), keepdims=True)
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
            "use_expansion": self.use_expansion,
        }


@keras.saving.register_keras_serializable("mobilevit_keras")
class MobileViTImageClassifier(VisionTask):
    """MobileViT or MobileViTv2 with its classifier: images in, logits out.

    Args:
        backbone: The `MobileViTBackbone` to classify by.
        num_classes: Number of classes K; that of `class_names` by default.
        classifier_dropout: Dropout rate before the classifier.
        class_names: Names of the classes in the order of the logits; saved with the weights.
        preprocessing: How images are made the model's input in evaluation, a `Preprocessing` or its
            fields as a dict; saved with the weights.
        frozen: Names of layers that training leaves as they are; saved with the weights.

    Input shape: `(B, H, W, 3)`, RGB float32 in [0, 1].
    Output shape: `(B, K)`, logits.

    Raises:
        ValueError: If the number of names is not `num_classes`, or neither is given.

    Example:
    >>> model = MobileViTImageClassifier.from_variant("mobilevit_xxs", num_classes=10)
    >>> model(np.zeros((1, 64, 64, 3))).shape
    TensorShape([1, 10])

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178).
    """

    CLASS_WEIGHTS = ("head/classifier/",)

    def __init__(
        self,
        backbone: MobileViTBackbone,
        num_classes: int | None = None,
        classifier_dropout: float = 0.1,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        frozen: Sequence[str] = (),
        **kwargs,
    ) -> None:
        num_classes = check_classes(num_classes, class_names)

        # Layers
        head = ClassifierHead(
            num_classes,
            dropout=classifier_dropout,
            activation=backbone.config["activation"],
            form=backbone.config["form"],
            use_expansion=backbone.config["attention"] != "separable",
            dtype=backbone.config["dtype"],
            name="head",
        )

        # Functional graph
        # The backbone's own input, so that its `pyramid_outputs` are of this model's graph too.
        (images,) = backbone.inputs
        logits = head(backbone(images))
        super().__init__(
            backbone,
            images=images,
            outputs=logits,
            class_names=class_names,
            preprocessing=preprocessing,
            frozen=frozen,
            **kwargs,
        )

        # Config
        self.head = head
        self.num_classes = num_classes
        self.classifier_dropout = classifier_dropout

    @classmethod
    def from_variant(
        cls,
        variant: str,
        num_classes: int | None = None,
        classifier_dropout: float = 0.1,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        **backbone_overrides,
    ) -> Self:
        """Builds a classifier on one of the variants, such as "mobilevit_s" or "mobilevitv2_100".

        Args:
            variant: Name in `mobilevit_keras.models.VARIANTS`.
            num_classes: Number of classes; by default that of `class_names`, or ImageNet's 1,000.
            classifier_dropout, class_names, preprocessing: See the class.
            **backbone_overrides: Arguments of `MobileViTBackbone` that replace the variant's.

        Raises:
            ValueError: If the variant is unknown.
        """
        if num_classes is None and class_names is None:
            num_classes = IMAGENET_CLASSES
        return cls(
            MobileViTBackbone.from_variant(variant, **backbone_overrides),
            num_classes,
            classifier_dropout,
            class_names,
            preprocessing,
            name=f"{variant}_classifier",
        )

    def with_heat_map(self, images) -> dict:
        """The logits of images, and where they come from: each class's score at each place.

        Args:
            images: `(B, H, W, 3)`, RGB float32 in [0, 1].

        Returns:
            {"logits": `(B, K)`, "heat_map": `(B, h, w, K)`}, float32; h and w are those of the last
            map, which covers the image. The logits are the scores' mean over all places; of a model
            in the form "quantized" but for int8's rounding and what its ranges cut off.

        Example:
        >>> model = MobileViTImageClassifier.from_variant("mobilevit_xxs", num_classes=10)
        >>> model.with_heat_map(np.zeros((1, 64, 96, 3), "float32"))["heat_map"].shape
        TensorShape([1, 2, 3, 10])
        """
        return self.head.with_heat_map(self.backbone(images, training=False))

    def default_loss(self) -> keras.Loss:
        return CrossEntropy()

    def default_metrics(self) -> list[keras.Metric]:
        return [TopAccuracy(1), TopAccuracy(5)]

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "classifier_dropout": self.classifier_dropout,
        }
