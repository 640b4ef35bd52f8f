from collections.abc import Sequence
from typing import Self

import keras
import numpy as np
from keras import ops

from mobilevit_keras.layers import ASPP
from mobilevit_keras.layers.fake_quant import quantize, quantizer
from mobilevit_keras.layers.forms import QUANTIZED
from mobilevit_keras.layers.transformer import token_dense
from mobilevit_keras.metrics import MeanIoU, PixelAccuracy, PixelCrossEntropy, class_masks
from mobilevit_keras.models.backbone import MobileViTBackbone
from mobilevit_keras.models.classes import check_classes
from mobilevit_keras.models.preprocessing import Preprocessing
from mobilevit_keras.models.vision_task import VisionTask

VOC_CLASSES = 21
"""PASCAL VOC's twenty classes and their background."""

HEAD_FILTERS = {"multi_head": 256, "separable": 512}
"""Channels of the authors' heads, by the attention of the backbone."""

# Of what is element by element; MobileViTv2's authors drop whole channels only.
_ASPP_DROPOUT = {"multi_head": 0.1, "separable": 0.0}


@keras.saving.register_keras_serializable("mobilevit_keras")
class SegmenterHead(keras.layers.Layer):
    """DeepLabv3's head: ASPP, dropout of whole channels, a 1x1 classifier.

    Args:
        num_classes: Number of classes K.
        filters, dilation_rates, aspp_dropout: See `ASPP`.
        classifier_dropout: Rate before the classifier.
        form: "training", or a form with folded norms.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, H, W, K)`, logits in float32.
    """

    def __init__(
        self,
        num_classes: int,
        filters: int,
        dilation_rates: tuple[int, ...],
        aspp_dropout: float,
        classifier_dropout: float,
        form: str,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.filters = filters
        self.dilation_rates = tuple(dilation_rates)
        self.aspp_dropout = aspp_dropout
        self.classifier_dropout = classifier_dropout
        self.form = form
        self.aspp = ASPP(
            filters, dilation_rates, aspp_dropout, form=form, name="aspp", dtype=self.dtype_policy
        )
        self.drop = keras.layers.SpatialDropout2D(classifier_dropout, dtype=self.dtype_policy)
        # Logits in float32, because a loss in float16 overflows.
        self.classifier = token_dense(num_classes, "classifier", "float32", form)
        self.quantize_logits = quantizer(form, "logits_quantizer")

    def build(self, input_shape) -> None:
        self.aspp.build(input_shape)
        self.classifier.build((*input_shape[:-1], self.filters))
        if self.form == QUANTIZED:
            self.classifier.answer_on(self.quantize_logits)

    def call(self, inputs, training=None):
        x = self.aspp(inputs, training=training)
        x = self.classifier(self.drop(x, training=training))
        return quantize(self.quantize_logits, x)

    def compute_output_shape(self, input_shape) -> tuple:
        return (*input_shape[:-1], self.num_classes)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "filters": self.filters,
            "dilation_rates": self.dilation_rates,
            "aspp_dropout": self.aspp_dropout,
            "classifier_dropout": self.classifier_dropout,
            "form": self.form,
        }


@keras.saving.register_keras_serializable("mobilevit_keras")
class MobileViTImageSegmenter(VisionTask):
    """DeepLabv3 on MobileViT: images in, logits of every cell out, at the output stride.

    Loss, metrics and `segment` enlarge the logits to the image; called, the model leaves that to
    whoever has something better to do with them.

    Args:
        backbone: The `MobileViTBackbone` to segment by; of output stride 16 in the paper.
        num_classes: Number of classes K; that of `class_names` by default.
        filters, aspp_dropout: See `ASPP`; by default as the authors have them, 256 and 0.1, or 512
            and 0 of separable attention.
        dilation_rates: See `ASPP`.
        classifier_dropout: Dropout rate before the classifier, of whole channels.
        class_names: Names of the classes in the order of the logits; saved with the weights.
        preprocessing: How images are made the model's input in evaluation, a `Preprocessing` or its
            fields as a dict; saved with the weights.
        frozen: Names of layers that training leaves as they are; saved with the weights.

    Input shape: `(B, H, W, 3)`, RGB float32 in [0, 1], any size from 32 up.
    Output shape: `(B, H / output_stride, W / output_stride, K)`, rounded up as the backbone's;
        logits.

    Raises:
        ValueError: If the number of names is not `num_classes`, or neither is given.

    Example:
    >>> model = MobileViTImageSegmenter.from_variant("mobilevit_xxs", num_classes=5)
    >>> model(np.zeros((1, 64, 96, 3))).shape
    TensorShape([1, 4, 6, 5])

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), section 4.2;
        [DeepLabv3](https://arxiv.org/abs/1706.05587).
    """

    CLASS_WEIGHTS = ("head/classifier/",)
    OUTPUT_STRIDE = 16

    def __init__(
        self,
        backbone: MobileViTBackbone,
        num_classes: int | None = None,
        filters: int | None = None,
        dilation_rates: tuple[int, ...] = (6, 12, 18),
        aspp_dropout: float | None = None,
        classifier_dropout: float = 0.1,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        frozen: Sequence[str] = (),
        **kwargs,
    ) -> None:
        num_classes = check_classes(num_classes, class_names)
        attention = backbone.config["attention"]
        filters = HEAD_FILTERS[attention] if filters is None else filters
        aspp_dropout = _ASPP_DROPOUT[attention] if aspp_dropout is None else aspp_dropout

        # Layers
        head = SegmenterHead(
            num_classes,
            filters,
            dilation_rates,
            aspp_dropout,
            classifier_dropout,
            form=backbone.config["form"],
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
        self.filters = filters
        self.dilation_rates = tuple(dilation_rates)
        self.aspp_dropout = aspp_dropout
        self.classifier_dropout = classifier_dropout

    @classmethod
    def from_variant(
        cls,
        variant: str,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        *,
        filters: int | None = None,
        dilation_rates: tuple[int, ...] = (6, 12, 18),
        aspp_dropout: float | None = None,
        classifier_dropout: float = 0.1,
        output_stride: int = OUTPUT_STRIDE,
        **backbone_overrides,
    ) -> Self:
        """Builds a segmenter on one of the variants, such as "mobilevit_s" or "mobilevitv2_100".

        Args:
            variant: Name in `mobilevit_keras.models.VARIANTS`.
            num_classes: Number of classes; by default that of `class_names`, or PASCAL VOC's 21.
            class_names, preprocessing, filters, dilation_rates: See the class.
            aspp_dropout, classifier_dropout: See the class.
            output_stride: 32, 16 or 8: pixels of the image for each cell of the logits.
            **backbone_overrides: Arguments of `MobileViTBackbone` that replace the variant's.

        Raises:
            ValueError: If the variant is unknown.
        """
        if num_classes is None and class_names is None:
            num_classes = VOC_CLASSES
        return cls(
            MobileViTBackbone.from_variant(
                variant, output_stride=output_stride, **backbone_overrides
            ),
            num_classes,
            filters,
            dilation_rates,
            aspp_dropout,
            classifier_dropout,
            class_names=class_names,
            preprocessing=preprocessing,
            name=f"{variant}_segmenter",
        )

    def default_loss(self) -> keras.Loss:
        return PixelCrossEntropy()

    def default_metrics(self) -> list[keras.Metric]:
        return [MeanIoU(self.num_classes), PixelAccuracy()]

    def segment(self, images) -> np.ndarray:
        """The class of every pixel.

        Args:
            images: `(B, H, W, 3)`, the model's input.

        Returns:
            int32 `(B, H, W)`: the class whose logit, enlarged bilinearly, is the largest.
        """
        logits = ops.convert_to_numpy(self(images, training=False))
        return class_masks(logits, *np.shape(images)[1:3])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "filters": self.filters,
            "dilation_rates": self.dilation_rates,
            "aspp_dropout": self.aspp_dropout,
            "classifier_dropout": self.classifier_dropout,
        }
