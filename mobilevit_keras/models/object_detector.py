import contextlib
from collections.abc import Iterator, Sequence
from typing import Self

import keras
import numpy as np
from keras import ops

from mobilevit_keras.boxes import (
    FILE_ORDER,
    MAX_SCALE,
    MIN_SCALE,
    BoxDecoding,
    decode_boxes,
    encode_boxes,
    image_anchors,
    match_anchors,
    num_anchors,
    suppress,
    to_pixels,
)
from mobilevit_keras.layers import QUANTIZED, ConvNormAct, SeparableConv, SSDLiteHead
from mobilevit_keras.layers.fake_quant import FLOAT_AGAIN, quantize, quantizer
from mobilevit_keras.metrics import MultiBoxLoss
from mobilevit_keras.models.backbone import MobileViTBackbone
from mobilevit_keras.models.classes import check_classes
from mobilevit_keras.models.preprocessing import Preprocessing
from mobilevit_keras.models.vision_task import VisionTask

COCO_CLASSES = 80

# After the backbone's last two maps, by their strides.
_EXTRA_FILTERS = {64: 256, 128: 128, 256: 128}
_GLOBAL_FILTERS = 64
HEAD_FILTERS = (512, 256, 256, 128, 128, None)
"""Channels that each map is projected to, where it has others; the last is of one cell."""


@keras.saving.register_keras_serializable("mobilevit_keras")
class MobileViTObjectDetector(VisionTask):
    """SSDLite on MobileViT: images in, encoded boxes and logits of every anchor out.

    `detect` makes boxes, labels and scores of them; `targets` makes of an image's boxes what the
    loss compares them with.

    Args:
        backbone: The `MobileViTBackbone` to detect by, of output stride 32.
        num_classes: Number of classes K, background not counted; that of `class_names` by default.
        min_scale, max_scale: Of the anchors, in sides of the image, see `ssd_anchors`. Where no
            object is small, a larger smallest one has the finer maps find them.
        class_names: Names of the classes without background; saved with the weights.
        preprocessing: How images are made the model's input in evaluation, a `Preprocessing` or its
            fields as a dict; saved with the weights.
        frozen: Names of layers that training leaves as they are; saved with the weights.

    Input shape: `(B, H, W, 3)`, RGB float32 in [0, 1], any size from 32 up.
    Output shape: {"boxes": `(B, A, 4)`, encoded, "logits": `(B, A, K + 1)`, background first}.

    Raises:
        ValueError: If the number of names is not `num_classes`, or neither is given, or the
            backbone's output stride is another, or the scales do not increase from above 0.

    Example:
    >>> model = MobileViTObjectDetector.from_variant("mobilevit_xxs", num_classes=5)
    >>> {name: output.shape for name, output in model(np.zeros((1, 320, 320, 3))).items()}
    {'boxes': TensorShape([1, 3232, 4]), 'logits': TensorShape([1, 3232, 6])}

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), section 4.2;
        [MobileNetV2](https://arxiv.org/abs/1801.04381), section 6.2.
    """

    # Where a box is does not depend on the classes.
    CLASS_WEIGHTS = tuple(f"head_{level}/logits/" for level in range(len(HEAD_FILTERS)))

    def __init__(
        self,
        backbone: MobileViTBackbone,
        num_classes: int | None = None,
        min_scale: float = MIN_SCALE,
        max_scale: float = MAX_SCALE,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        frozen: Sequence[str] = (),
        **kwargs,
    ) -> None:
        num_classes = check_classes(num_classes, class_names)
        if backbone.config["output_stride"] != self.OUTPUT_STRIDE:
            raise ValueError(
                f"The backbone's `output_stride` must be {self.OUTPUT_STRIDE}. "
                f"Received: {backbone.config['output_stride']}."
            )
        if not 0 < min_scale < max_scale:
            raise ValueError(
                "`min_scale` must be above 0 and below `max_scale`. "
                f"Received: min_scale={min_scale}, max_scale={max_scale}."
            )

        # Layers
        form = backbone.config["form"]
        common = {"form": form, "dtype": backbone.config["dtype"]}
        extras = [
            SeparableConv(filters, strides=2, name=f"extra_{stride}", **common)
            for stride, filters in _EXTRA_FILTERS.items()
        ]
        # The mean of a mixed-precision map is taken in float32.
        pool = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool", dtype="float32")
        extra_global = ConvNormAct(
            _GLOBAL_FILTERS, 1, use_norm=False, activation="relu", name="extra_global", **common
        )
        heads = [
            SSDLiteHead(anchors, num_classes + 1, filters, name=f"head_{level}", **common)
            for level, (anchors, filters) in enumerate(
                zip(num_anchors(), HEAD_FILTERS, strict=True)
            )
        ]

        # What is joined has one grid in int8. Boxes and logits are of so different sizes that they
        # cannot share its 256 values.
        grids = [quantizer(form, f"{name}_quantizer") for name in ("boxes", "logits")]
        quantize_mean = quantizer(form, "pool_quantizer")
        if form == QUANTIZED:
            for head in heads:
                head.answer_on(*grids)

        # Functional graph
        # The backbone's own input and maps: they are of this model's graph.
        (images,) = backbone.inputs
        maps = [backbone.pyramid_outputs[level] for level in ("P4", "P5")]
        for extra in extras:
            maps.append(extra(maps[-1]))
        # Else the converter puts the mean on the map's grid, which is far too coarse for it.
        last = maps[-1] * FLOAT_AGAIN if form == QUANTIZED else maps[-1]
        maps.append(extra_global(quantize(quantize_mean, pool(last))))
        parts = zip(*(head(x) for head, x in zip(heads, maps, strict=True)), strict=True)
        outputs = {}
        for name, of_maps, grid in zip(("boxes", "logits"), parts, grids, strict=True):
            # XNNPACK joins five parts at most: the small maps' first.
            *large, small = of_maps[0], of_maps[1], of_maps[2:]
            small = keras.layers.Concatenate(axis=1, name=f"{name}_small", dtype="float32")(small)
            join = keras.layers.Concatenate(axis=1, name=name, dtype="float32")
            outputs[name] = quantize(grid, join([*large, small]))
        super().__init__(
            backbone,
            images=images,
            outputs=outputs,
            class_names=class_names,
            preprocessing=preprocessing,
            frozen=frozen,
            **kwargs,
        )

        # Config
        self.num_classes = num_classes
        self.min_scale = min_scale
        self.max_scale = max_scale

    @classmethod
    def from_variant(
        cls,
        variant: str,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | dict | None = None,
        min_scale: float = MIN_SCALE,
        max_scale: float = MAX_SCALE,
        **backbone_overrides,
    ) -> Self:
        """Builds a detector on one of the variants, such as "mobilevit_s" or "mobilevitv2_100".

        Args:
            variant: Name in `mobilevit_keras.models.VARIANTS`.
            num_classes: Number of classes; by default that of `class_names`, or COCO's 80.
            class_names, preprocessing, min_scale, max_scale: See the class.
            **backbone_overrides: Arguments of `MobileViTBackbone` that replace the variant's.

        Raises:
            ValueError: If the variant is unknown.
        """
        if num_classes is None and class_names is None:
            num_classes = COCO_CLASSES
        return cls(
            MobileViTBackbone.from_variant(variant, **backbone_overrides),
            num_classes,
            class_names=class_names,
            preprocessing=preprocessing,
            min_scale=min_scale,
            max_scale=max_scale,
            name=f"{variant}_detector",
        )

    def anchors(self, height: int, width: int):
        """The anchors `(A, 4)` of an image: middle's x and y, width, height, in its sides.

        Args:
            height, width: The image's, in pixels; integers or scalar integer tensors.
        """
        return image_anchors(
            height, width, self.min_scale, self.max_scale, self.backbone.map_multiples
        )

    def decoding(self, height: int, width: int) -> BoxDecoding:
        """How boxes are read from what a file of this model gives for images of a size."""
        return BoxDecoding(
            (height, width), self.min_scale, self.max_scale, self.backbone.map_multiples
        )

    @contextlib.contextmanager
    def in_file_order(self) -> Iterator[None]:
        """Has the model answer with y, x, height and width of boxes for as long as the block.

        The last convolutions' channels change places, so that a file has the order without an
        operation: LiteRT's WebGPU backend leaves out a split whose parts are joined in another one.
        """
        self._exchange_numbers()
        try:
            yield
        finally:
            self._exchange_numbers()

    def _exchange_numbers(self) -> None:
        for level in range(len(HEAD_FILTERS)):
            self.get_layer(f"head_{level}").reorder_boxes(FILE_ORDER)

    def targets(self, bounding_boxes: dict, height: int, width: int, iou_threshold: float = 0.5):
        """What the loss compares the outputs with; works in graphs, on sizes that only the run has.

        Args:
            bounding_boxes: {"boxes": `(B, N, 4)`, left, top, right, bottom in pixels, "labels":
                `(B, N)`, classes from 0, or -1 for rows that are no boxes}.
            height, width: The images', in pixels.
            iou_threshold: See `match_anchors`.

        Returns:
            {"boxes": `(B, A, 4)`, encoded, "logits": int32 `(B, A)`, classes from 1, 0 for
            background}, by the names of the outputs that they are for.
        """
        anchors = self.anchors(height, width)
        size = ops.cast(ops.stack([width, height, width, height]), "float32")
        boxes, labels = match_anchors(
            anchors,
            ops.cast(bounding_boxes["boxes"], "float32") / size,
            bounding_boxes["labels"],
            iou_threshold,
        )
        return {"boxes": encode_boxes(boxes, anchors), "logits": labels}

    def detect(
        self, images, sizes: Sequence[tuple[int, int]] | None = None, **arguments
    ) -> list[dict[str, np.ndarray]]:
        """The boxes of each image, the surest first.

        Args:
            images: `(B, H, W, 3)`, the model's input.
            sizes: Heights and widths of the images that it was resized from, where boxes are to be
                in their pixels.
            **arguments: See `suppress`.

        Returns:
            For each image "boxes" `(N, 4)`, left, top, right, bottom in pixels, "labels" `(N,)`,
            classes from 0, and "scores" `(N,)`.
        """
        outputs = self(images, training=False)
        height, width = ops.shape(images)[1:3]
        boxes = decode_boxes(outputs["boxes"], self.anchors(height, width))
        # Background is no answer.
        scores = ops.softmax(outputs["logits"], axis=-1)[..., 1:]
        found = suppress(ops.convert_to_numpy(boxes), ops.convert_to_numpy(scores), **arguments)
        sizes = [(height, width)] * len(found) if sizes is None else sizes
        return [
            {**answer, "boxes": to_pixels(answer["boxes"], *size)}
            for answer, size in zip(found, sizes, strict=True)
        ]

    def default_loss(self) -> keras.Loss:
        return MultiBoxLoss()

    def default_metrics(self) -> list[keras.Metric]:
        return []

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Keras's, but for one loss of both outputs, which Keras would give each by itself."""
        if isinstance(self.loss, keras.Loss):
            return self.loss(y, y_pred, sample_weight)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "min_scale": self.min_scale,
            "max_scale": self.max_scale,
        }
