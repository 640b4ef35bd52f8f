"""What a model costs: parameters, multiply-adds and activations, and what was published of them."""

import dataclasses
import math
from collections.abc import Iterator

import keras

from mobilevit_keras.models.image_classifier import MobileViTImageClassifier
from mobilevit_keras.models.image_segmenter import MobileViTImageSegmenter
from mobilevit_keras.models.object_detector import MobileViTObjectDetector


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What one image costs.

    Attributes:
        parameters: Trainable parameters.
        multiply_adds: Of convolutions, dense layers and products of two activations.
        attention_multiply_adds: Of these, the products of two activations.
        activations: Elements that those operations put out, the measure of arXiv 2003.13678.
    """

    parameters: int
    multiply_adds: int
    attention_multiply_adds: int
    activations: int


@dataclasses.dataclass(frozen=True)
class Published:
    """A model's published figures; None where there is none.

    Attributes:
        size: Side of the image that multiply-adds and accuracy hold for, in pixels.
        parameters: Trainable parameters with 1000 classes, of a segmenter with 21, of a detector
            with 80 and background; some are published in tenths of a million.
        multiply_adds: For one image.
        attention_multiply_adds: Of these, the attention products.
        top1: ImageNet accuracy in percent.
        mean_iou: Of a segmenter on PASCAL VOC's validation images, in percent.
        map: Of a detector on COCO's validation images, in percent.
    """

    size: int
    parameters: int | None
    multiply_adds: int | None
    attention_multiply_adds: int | None
    top1: float | None
    mean_iou: float | None = None
    map: float | None = None

    @property
    def accuracy(self) -> float | None:
        """The figure of the model's task."""
        return self.top1 or self.mean_iou or self.map


@dataclasses.dataclass(frozen=True)
class DescribedModel:
    """A model of the table: how to build it, and what is published of it.

    Attributes:
        variant: Key of `VARIANTS`; None is MobileNetV2 of width 1.
        overrides: Arguments of `MobileViTBackbone` that replace the variant's.
        published: The figures to compare with.
        model_class: What stands on the backbone.
    """

    variant: str | None
    overrides: dict
    published: Published
    model_class: type = MobileViTImageClassifier

    def build(self, size: int) -> keras.Model:
        """Returns the model for its published classes and square images of `size` pixels."""
        shape = (size, size, 3)
        if self.variant is None:
            return keras.applications.MobileNetV2(input_shape=shape, weights=None)
        return self.model_class.from_variant(self.variant, image_shape=shape, **self.overrides)


def _v2(variant: str, parameters: int, top1: float) -> DescribedModel:
    return DescribedModel(variant, {}, Published(256, parameters, None, None, top1))


def _patches(sides: tuple[int, int, int], top1: float) -> DescribedModel:
    published = Published(256, 5_578_632, None, None, top1)
    return DescribedModel("mobilevit_s", {"patch_size": sides}, published)


def _segmenter(variant: str, parameters: int, mean_iou: float) -> DescribedModel:
    published = Published(512, parameters, None, None, None, mean_iou)
    return DescribedModel(variant, {}, published, MobileViTImageSegmenter)


def _detector(variant: str, parameters: int, mean_precision: float) -> DescribedModel:
    published = Published(320, parameters, None, None, None, map=mean_precision)
    return DescribedModel(variant, {}, published, MobileViTObjectDetector)


# arXiv 2110.02178, tables 1 to 4 and 8; the split of its multiply-adds was counted on the authors'
# code. MobileViTv2: arXiv 2206.02680, and the authors' list of weights. MobileNetV2: arXiv
# 1801.04381, table 4.
DESCRIBED_MODELS = {
    "mobilevit_xxs": DescribedModel(
        "mobilevit_xxs", {}, Published(256, 1_272_024, 407_000_000, 78_000_000, 69.0)
    ),
    "mobilevit_xs": DescribedModel(
        "mobilevit_xs", {}, Published(256, 2_317_848, 1_026_000_000, 117_000_000, 74.8)
    ),
    "mobilevit_s": DescribedModel(
        "mobilevit_s", {}, Published(256, 5_578_632, 2_001_000_000, 178_000_000, 78.4)
    ),
    "mobilevitv2_050": _v2("mobilevitv2_050", 1_370_593, 70.18),
    "mobilevitv2_075": _v2("mobilevitv2_075", 2_866_009, 75.56),
    "mobilevitv2_100": _v2("mobilevitv2_100", 4_901_841, 78.09),
    "mobilevitv2_125": _v2("mobilevitv2_125", 7_478_089, 79.65),
    "mobilevitv2_150": _v2("mobilevitv2_150", 10_594_753, 80.38),
    "mobilevitv2_175": _v2("mobilevitv2_175", 14_251_833, 80.84),
    "mobilevitv2_200": _v2("mobilevitv2_200", 18_449_329, 81.17),
    "mobilevit_s, patches 3,3,3": _patches((3, 3, 3), 78.5),
    "mobilevit_s, patches 4,4,4": _patches((4, 4, 4), 77.6),
    "mobilevit_s, patches 8,4,2": _patches((8, 4, 2), 77.3),
    "mobilevit_s, no fusion": DescribedModel(
        "mobilevit_s", {"use_fusion": False}, Published(256, None, None, None, 77.9)
    ),
    "mobilevit_xxs segmenter": _segmenter("mobilevit_xxs", 1_854_853, 73.6),
    "mobilevit_xs segmenter": _segmenter("mobilevit_xs", 2_944_069, 77.1),
    "mobilevit_s segmenter": _segmenter("mobilevit_s", 6_357_941, 79.1),
    "mobilevitv2_050 segmenter": _segmenter("mobilevitv2_050", 6_200_000, 75.07),
    "mobilevitv2_100 segmenter": _segmenter("mobilevitv2_100", 13_300_000, 78.94),
    "mobilevitv2_125 segmenter": _segmenter("mobilevitv2_125", 17_700_000, 79.68),
    "mobilevitv2_150 segmenter": _segmenter("mobilevitv2_150", 22_600_000, 80.30),
    "mobilevit_xxs detector": _detector("mobilevit_xxs", 1_755_050, 19.9),
    "mobilevit_xs detector": _detector("mobilevit_xs", 2_742_042, 24.8),
    "mobilevit_s detector": _detector("mobilevit_s", 5_738_826, 27.7),
    "mobilevitv2_050 detector": _detector("mobilevitv2_050", 2_000_000, 21.24),
    "mobilevitv2_075 detector": _detector("mobilevitv2_075", 3_600_000, 24.57),
    "mobilevitv2_100 detector": _detector("mobilevitv2_100", 5_600_000, 26.47),
    "mobilevitv2_125 detector": _detector("mobilevitv2_125", 8_200_000, 27.85),
    "mobilevitv2_150 detector": _detector("mobilevitv2_150", 11_300_000, 28.83),
    "mobilevitv2_175 detector": _detector("mobilevitv2_175", 14_900_000, 29.52),
    "mobilevitv2_200 detector": _detector("mobilevitv2_200", 19_100_000, 30.21),
    "mobilenet_v2": DescribedModel(None, {}, Published(224, 3_400_000, 300_000_000, 0, 72.0)),
}
"""Rows of the table that `python -m train describe` prints."""


def count(model: keras.Model, size: int) -> Statistics:
    """Counts a model's costs for one square image, on the graph that runs it.

    Additions, norms, activation functions and resizes are left out, as in the published figures.

    Args:
        model: The model; images are its only input.
        size: Side of the image in pixels.

    Raises:
        ValueError: If the model does not take that size.

    Example:
    >>> images = keras.Input((8, 8, 3))
    >>> model = keras.Model(images, keras.layers.Conv2D(4, 1)(images))
    >>> count(model, 8)
    Statistics(parameters=16, multiply_adds=768, attention_multiply_adds=0, activations=256)
    """
    expected = model.inputs[0].shape[1:3]
    if any(side not in (None, size) for side in expected):
        raise ValueError(f"The model takes images of {tuple(expected)} pixels. Received: {size}.")
    counted = list(_operations(model, size))
    return Statistics(
        parameters=sum(math.prod(weight.shape) for weight in model.trainable_variables),
        multiply_adds=sum(outputs * inner for _, outputs, inner in counted),
        attention_multiply_adds=sum(
            outputs * inner for is_product, outputs, inner in counted if is_product
        ),
        activations=sum(outputs for _, outputs, _ in counted),
    )


def _operations(model: keras.Model, size: int) -> Iterator[tuple[bool, int, int]]:
    """Yields (is a product of two activations, outputs, multiply-adds of each output)."""
    import tensorflow as tf

    graph = tf.function(lambda images: model(images, training=False)).get_concrete_function(
        tf.TensorSpec((1, size, size, *model.inputs[0].shape[3:]), tf.float32)
    )
    for operation in graph.graph.get_operations():
        if operation.type == "Conv2D":
            height, width, channels, _ = operation.inputs[1].shape
            yield False, _elements(operation.outputs[0]), height * width * channels
        elif operation.type == "DepthwiseConv2dNative":
            height, width = operation.inputs[1].shape[:2]
            yield False, _elements(operation.outputs[0]), height * width
        elif operation.type in ("MatMul", "BatchMatMulV2"):
            transposed = "transpose_a" if operation.type == "MatMul" else "adj_x"
            inner = operation.inputs[0].shape[-2 if operation.get_attr(transposed) else -1]
            yield operation.type != "MatMul", _elements(operation.outputs[0]), inner


def _elements(tensor) -> int:
    return math.prod(tensor.shape)
