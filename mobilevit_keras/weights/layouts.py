"""The one table of names: every Keras layer and what three other implementations call it."""

import dataclasses
from collections.abc import Iterator, Mapping

from mobilevit_keras.models.object_detector import HEAD_FILTERS
from mobilevit_keras.models.variants import STAGE2_RESIDUALS
from mobilevit_keras.paper import NUM_LAYERS

CVNETS = "cvnets"
HUGGING_FACE = "huggingface"
TIMM = "timm"

RGB = "rgb"
BGR = "bgr"


# What comes after stage 2: MobileViT's attention, or MobileViTv2's.
MULTI_HEAD = "multi_head"
SEPARABLE = "separable"


@dataclasses.dataclass(frozen=True)
class PublishedInput:
    """How published weights want images.

    Attributes:
        channel_order: Order of the stem's input channels.
        short_side, crop_size, interpolation: Evaluation preprocessing.
    """

    channel_order: str
    short_side: int
    crop_size: int
    interpolation: str


# All three have MobileViTv2's from the authors, who by then trained on RGB. (Hugging Face's own
# preprocessor of them flips to BGR; nobody here has had the weights to try which is right.)
_V2_INPUT = PublishedInput(RGB, short_side=288, crop_size=256, interpolation="bicubic")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an implementation names tensors, and how its published weights want images.

    Attributes:
        title: What a person calls it.
        column: Its column in the tables below.
        conv: Suffix of the convolution in a convolution with batch norm.
        norm: Suffix of the batch norm there.
        inputs: The published weights' `PublishedInput` by attention.
    """

    title: str
    column: int
    conv: str
    norm: str
    inputs: Mapping[str, PublishedInput]


LAYOUTS = {
    CVNETS: Layout(
        title="CVNets",
        column=0,
        conv=".block.conv",
        norm=".block.norm",
        inputs={
            MULTI_HEAD: PublishedInput(BGR, 288, 256, "bilinear"),
            SEPARABLE: _V2_INPUT,
        },
    ),
    HUGGING_FACE: Layout(
        title="Hugging Face",
        column=1,
        conv=".convolution",
        norm=".normalization",
        inputs={
            MULTI_HEAD: PublishedInput(BGR, 288, 256, "bilinear"),
            SEPARABLE: _V2_INPUT,
        },
    ),
    TIMM: Layout(
        title="timm",
        column=2,
        conv=".conv",
        norm=".bn",
        inputs={
            # timm keeps the central 0.9: 256 / 0.9 = 284.4.
            MULTI_HEAD: PublishedInput(RGB, 284, 256, "bicubic"),
            SEPARABLE: _V2_INPUT,
        },
    ),
}

ENCODER_PREFIX = "encoder."
"""What CVNets puts before the backbone's names in a segmentation or detection model."""

AUXILIARY_PREFIX = "seg_head.aux_head."
"""What the names of a second head begin with in CVNets, which nothing but its training asks."""

CLASSIFICATION = "classification"
SEGMENTATION = "segmentation"
DETECTION = "detection"

# Kinds of tensor, by what has to be done to their axes.
CONV_KERNEL = "convolution kernel"
DEPTHWISE_KERNEL = "depthwise kernel"
DENSE_KERNEL = "dense kernel"
VECTOR = "vector"

# Kinds of row.
CONV_NORM = "convolution and batch norm"
DEPTHWISE_NORM = "depthwise convolution and batch norm"
CONV = "convolution without bias"
CONV_BIAS = "convolution with bias"
DENSE = "dense layer with bias"
LAYER_NORM = "layer norm"

_KERNELS = {
    CONV_NORM: CONV_KERNEL,
    DEPTHWISE_NORM: DEPTHWISE_KERNEL,
    CONV: CONV_KERNEL,
    CONV_BIAS: CONV_KERNEL,
    DENSE: DENSE_KERNEL,
}
_LAYER_NORM_VARIABLES = (("gamma", "weight"), ("beta", "bias"))
_BATCH_NORM_VARIABLES = (
    *_LAYER_NORM_VARIABLES,
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
)
UPDATES_COUNTER = "num_batches_tracked"
"""PyTorch's count of a batch norm's updates, which nothing computes with."""

# Columns: Keras layer, kind, then the names in CVNets, Hugging Face and timm, None where the
# implementation has no such model. "@i" after a name: the i-th of three parts of that tensor's
# rows; "@i:A": the i-th of two parts of each of A groups of rows.
# n counts stages from 1 and m from 0, b blocks, j transformer layers, L how many there are.
_STEM = (("stem", CONV_NORM, "conv_1", "mobilevit.conv_stem", "stem"),)
_INVERTED_RESIDUAL = (
    ("/expand", CONV_NORM, ".block.exp_1x1", ".expand_1x1", ".conv1_1x1"),
    ("/depthwise", DEPTHWISE_NORM, ".block.conv_3x3", ".conv_3x3", ".conv2_kxk"),
    ("/project", CONV_NORM, ".block.red_1x1", ".reduce_1x1", ".conv3_1x1"),
)
_EARLY_STAGE = ("stage{n}_{b}", "layer_{n}.{b}", "mobilevit.encoder.layer.{m}.layer.{b}",
                "stages.{m}.{b}")  # fmt: skip
_DOWNSAMPLING = ("stage{n}_0", "layer_{n}.0", "mobilevit.encoder.layer.{m}.downsampling_layer",
                 "stages.{m}.0")  # fmt: skip
_BLOCK = ("stage{n}_1", "layer_{n}.1", "mobilevit.encoder.layer.{m}", "stages.{m}.1")
_BLOCK_CONVOLUTIONS = (
    ("/local_3x3", CONV_NORM, ".local_rep.conv_3x3", ".conv_kxk", ".conv_kxk"),
    ("/local_1x1/conv", CONV, ".local_rep.conv_1x1.block.conv", ".conv_1x1.convolution",
     ".conv_1x1"),
    ("/norm", LAYER_NORM, ".global_rep.{L}", ".layernorm", ".norm"),
    ("/project", CONV_NORM, ".conv_proj", ".conv_projection", ".conv_proj"),
    ("/fuse", CONV_NORM, ".fusion", ".fusion", ".conv_fusion"),
)  # fmt: skip
_TRANSFORMER = ("/transformer_{j}", ".global_rep.{j}", ".transformer.layer.{j}", ".transformer.{j}")
_TRANSFORMER_LAYERS = (
    ("/attention_norm", LAYER_NORM, ".pre_norm_mha.0", ".layernorm_before", ".norm1"),
    ("/query", DENSE, ".pre_norm_mha.1.qkv_proj@0", ".attention.attention.query", ".attn.qkv@0"),
    ("/key", DENSE, ".pre_norm_mha.1.qkv_proj@1", ".attention.attention.key", ".attn.qkv@1"),
    ("/value", DENSE, ".pre_norm_mha.1.qkv_proj@2", ".attention.attention.value", ".attn.qkv@2"),
    ("/output_dense", DENSE, ".pre_norm_mha.1.out_proj", ".attention.output.dense", ".attn.proj"),
    ("/ffn_norm", LAYER_NORM, ".pre_norm_ffn.0", ".layernorm_after", ".norm2"),
    ("/ffn_expand", DENSE, ".pre_norm_ffn.1", ".intermediate.dense", ".mlp.fc1"),
    ("/ffn_project", DENSE, ".pre_norm_ffn.4", ".output.dense", ".mlp.fc2"),
)
_V2_BLOCK_CONVOLUTIONS = (
    ("/local_3x3", DEPTHWISE_NORM, ".local_rep.0", ".conv_kxk", ".conv_kxk"),
    ("/local_1x1/conv", CONV, ".local_rep.1.block.conv", ".conv_1x1.convolution", ".conv_1x1"),
    ("/norm", LAYER_NORM, ".global_rep.{L}", ".layernorm", ".norm"),
    ("/project", CONV_NORM, ".conv_proj", ".conv_projection", ".conv_proj"),
)
_V2_TRANSFORMER_LAYERS = (
    ("/attention_norm", LAYER_NORM, ".pre_norm_attn.0", ".layernorm_before", ".norm1"),
    *((f"/{own}", CONV_BIAS, f".pre_norm_attn.1.qkv_proj.block.conv@{part}",
       f".attention.qkv_proj.convolution@{part}", f".attn.qkv_proj@{part}")
      for part, own in enumerate(("query", "key", "value"))),
    ("/output_dense", CONV_BIAS, ".pre_norm_attn.1.out_proj.block.conv",
     ".attention.out_proj.convolution", ".attn.out_proj"),
    ("/ffn_norm", LAYER_NORM, ".pre_norm_ffn.0", ".layernorm_after", ".norm2"),
    ("/ffn_expand", CONV_BIAS, ".pre_norm_ffn.1.block.conv", ".ffn.conv1.convolution",
     ".mlp.fc1"),
    ("/ffn_project", CONV_BIAS, ".pre_norm_ffn.3.block.conv", ".ffn.conv2.convolution",
     ".mlp.fc2"),
)  # fmt: skip
_BLOCKS = {
    MULTI_HEAD: (_BLOCK_CONVOLUTIONS, _TRANSFORMER_LAYERS),
    SEPARABLE: (_V2_BLOCK_CONVOLUTIONS, _V2_TRANSFORMER_LAYERS),
}
# What Hugging Face's names of the backbone begin with, in the tables above and of MobileViTv2.
_BEGINNING, _V2_BEGINNING = "mobilevit.", "mobilevitv2."
_CLASSIFIER = (
    ("head/expand", CONV_NORM, "conv_1x1_exp", "mobilevit.conv_1x1_exp", "final_conv"),
    ("head/classifier", DENSE, "classifier.fc", "classifier", "head.fc"),
)
_SEGMENTATION_HEAD = (
    *((f"head/aspp/branch_{i}", CONV_NORM, f"seg_head.aspp.aspp_layer.convs.{i}",
       f"segmentation_head.aspp.convs.{i}", None) for i in range(4)),
    ("head/aspp/pooled", CONV_NORM, "seg_head.aspp.aspp_layer.convs.4.aspp_pool.conv_1x1",
     "segmentation_head.aspp.convs.4.conv_1x1", None),
    ("head/aspp/project", CONV_NORM, "seg_head.aspp.aspp_layer.project",
     "segmentation_head.aspp.project", None),
    ("head/classifier", CONV_BIAS, "seg_head.classifier.classifier.block.conv",
     "segmentation_head.classifier.convolution", None),
)  # fmt: skip
_DETECTION_HEAD = (
    *(row for stride in (64, 128, 256) for row in (
        (f"extra_{stride}/depthwise", DEPTHWISE_NORM, f"extra_layers.os_{stride}.dw_conv",
         None, None),
        (f"extra_{stride}/pointwise", CONV_NORM, f"extra_layers.os_{stride}.pw_conv", None, None),
    )),
    ("extra_global/conv", CONV, "extra_layers.os_-1.1.block.conv", None, None),
    *((f"head_{i}/project", CONV_NORM, f"ssd_heads.{i}.proj_layer", None, None) for i in range(2)),
    *((f"head_{i}/depthwise", DEPTHWISE_NORM, f"ssd_heads.{i}.loc_cls_layer.dw_conv", None, None)
      for i in range(5)),
    # One convolution: of each anchor four rows for the box, then those for the classes.
    *((f"head_{i}/{output}", CONV_BIAS, f"{name}.block.conv@{part}:{anchors}", None, None)
      for i, (name, anchors) in enumerate((
          *((f"ssd_heads.{i}.loc_cls_layer.pw_conv", 6) for i in range(5)),
          ("ssd_heads.5.loc_cls_layer", 4),
      ))
      for part, output in enumerate(("boxes", "logits"))),
)  # fmt: skip
_V2_CLASSIFIER = (("head/classifier", DENSE, "classifier.1", "classifier", "head.fc"),)
_V2_SEGMENTATION_HEAD = (
    *_SEGMENTATION_HEAD[:-1],
    ("head/classifier", CONV_BIAS, "seg_head.classifier.block.conv",
     "segmentation_head.classifier.convolution", None),
)  # fmt: skip
# Where a map of stage 4 or 5 has the channels of its head already, nothing projects it.
_PROJECTIONS = {"head_0/project": (3, HEAD_FILTERS[0]), "head_1/project": (4, HEAD_FILTERS[1])}
_HEADS = {
    MULTI_HEAD: {
        CLASSIFICATION: _CLASSIFIER,
        SEGMENTATION: _SEGMENTATION_HEAD,
        DETECTION: _DETECTION_HEAD,
    },
    SEPARABLE: {
        CLASSIFICATION: _V2_CLASSIFIER,
        SEGMENTATION: _V2_SEGMENTATION_HEAD,
        DETECTION: _DETECTION_HEAD,
    },
}
_THIRDS = 3
_HALVES = 2
BOX_ROWS = 4
"""Rows of an anchor in CVNets's detection heads that are its box's; the others are its classes'."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One Keras variable and the tensor, or the part of a tensor, that holds its values.

    Attributes:
        variable: Path of the Keras variable, such as "stem/conv/kernel".
        tensor: Name of the foreign tensor.
        kind: One of the kinds of tensor above.
        part: Which of the `parts` along the first axis, or of those of each group.
        parts: Number of variables that the tensor holds.
        groups: Number of equal groups of rows, each of which holds a piece of every part.
    """

    variable: str
    tensor: str
    kind: str
    part: int = 0
    parts: int = 1
    groups: int = 1


def _joined(prefix: tuple[str, ...], rows: tuple, **numbers: int) -> Iterator[tuple]:
    """Puts the four names in `prefix` before those of each row and fills the numbers in."""
    for keras_name, kind, *names in rows:
        joined = [
            (start + end).format(**numbers)
            for start, end in zip(prefix, (keras_name, *names), strict=True)
        ]
        yield joined[0], kind, *joined[1:]


def _backbone_rows(num_layers: tuple[int, ...], attention: str) -> Iterator[tuple]:
    convolutions, transformer_layers = _BLOCKS[attention]
    yield from _STEM
    for n, blocks in ((1, 1), (2, STAGE2_RESIDUALS[attention])):
        for b in range(blocks):
            yield from _joined(_EARLY_STAGE, _INVERTED_RESIDUAL, n=n, m=n - 1, b=b)
    for n, layers in zip((3, 4, 5), num_layers, strict=True):
        numbers = {"n": n, "m": n - 1, "L": layers}
        yield from _joined(_DOWNSAMPLING, _INVERTED_RESIDUAL, **numbers)
        yield from _joined(_BLOCK, convolutions, **numbers)
        for j in range(layers):
            prefix = tuple(start + end for start, end in zip(_BLOCK, _TRANSFORMER, strict=True))
            yield from _joined(prefix, transformer_layers, **numbers, j=j)


def _row_entries(layer: str, kind: str, name: str, layout: Layout) -> Iterator[Entry]:
    name, _, part = name.partition("@")
    part, _, groups = part.partition(":")
    place = {}
    if groups:
        place = {"part": int(part), "parts": _HALVES, "groups": int(groups)}
    elif part:
        place = {"part": int(part), "parts": _THIRDS}
    if kind == LAYER_NORM:
        for variable, tensor in _LAYER_NORM_VARIABLES:
            yield Entry(f"{layer}/{variable}", f"{name}.{tensor}", VECTOR)
    elif kind in (CONV_NORM, DEPTHWISE_NORM):
        yield Entry(f"{layer}/conv/kernel", f"{name}{layout.conv}.weight", _KERNELS[kind])
        for variable, tensor in _BATCH_NORM_VARIABLES:
            yield Entry(f"{layer}/norm/{variable}", f"{name}{layout.norm}.{tensor}", VECTOR)
    else:
        yield Entry(f"{layer}/kernel", f"{name}.weight", _KERNELS[kind], **place)
        if kind != CONV:
            yield Entry(f"{layer}/bias", f"{name}.bias", VECTOR, **place)


def tasks(layout: str, attention: str = MULTI_HEAD) -> tuple[str, ...]:
    """Returns the tasks that an implementation has models with that attention for."""
    column = 2 + LAYOUTS[layout].column
    heads = _HEADS[attention]
    return tuple(task for task, rows in heads.items() if rows[-1][column] is not None)


def table(
    layout: str,
    num_layers: tuple[int, ...] = NUM_LAYERS,
    task: str = CLASSIFICATION,
    attention: str = MULTI_HEAD,
    stage_filters: tuple[int, ...] | None = None,
) -> list[Entry]:
    """Returns an entry for every variable of a Keras model; the first is the stem's kernel.

    Args:
        layout: "cvnets", "huggingface" or "timm".
        num_layers: Transformer layers of stages 3 to 5.
        task: One of the layout's `tasks`.
        attention: "multi_head", or "separable" for MobileViTv2.
        stage_filters: The backbone's, by which a detector may lack projections; without them the
            table has all that there can be.

    Raises:
        ValueError: If the implementation has no such model.
    """
    described = LAYOUTS[layout]
    known = tasks(layout, attention)
    if task not in known:
        raise ValueError(
            f"`task` must be one of {described.title}'s: {known}. Received: {task!r}, "
            f"with {attention} attention."
        )
    prefix = ENCODER_PREFIX if layout == CVNETS and task != CLASSIFICATION else ""
    backbone = _backbone_rows(num_layers, attention)
    entries = []
    for rows, start in ((backbone, prefix), (_HEADS[attention][task], "")):
        for layer, kind, *names in rows:
            stage, filters = _PROJECTIONS.get(layer, (0, None))
            if stage_filters is not None and stage_filters[stage] == filters:
                continue
            name = start + names[described.column]
            if attention == SEPARABLE and name.startswith(_BEGINNING):
                name = _V2_BEGINNING + name.removeprefix(_BEGINNING)
            entries.extend(_row_entries(layer, kind, name, described))
    return entries


def batch_norm_counters(entries: list[Entry]) -> list[str]:
    """Returns the names of the update counters that PyTorch keeps beside the batch norms."""
    ending = "running_mean"
    return [
        entry.tensor.removesuffix(ending) + UPDATES_COUNTER
        for entry in entries
        if entry.tensor.endswith(ending)
    ]
