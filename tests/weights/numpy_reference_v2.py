"""MobileViTv2's forward pass in NumPy, from the paper and the authors' text, for CVNets's names."""

import re

import numpy as np

from tests.weights.numpy_reference import (
    LAYERS,
    SSD_ANCHORS,
    SSD_FILTERS,
    Reference,
    convolve,
    relu,
    silu,
)

# By width: stem, stages, transformer channels.
WIDTHS = {
    0.5: (16, (32, 64, 128, 192, 256), (64, 96, 128)),
    0.75: (24, (48, 96, 192, 288, 384), (96, 144, 192)),
}
ASPP_FILTERS = 512


def random_checkpoint(
    num_classes: int, seed: int = 0, task: str = "classification", width: float = 0.5
) -> dict[str, np.ndarray]:
    """Random tensors of a small width, with batch norms that do something."""
    stem, stages, dims = WIDTHS[width]
    rng = np.random.default_rng(seed)
    tensors = {}

    def conv(name, c_out, c_in, k=1, groups=1, bias=False):
        shape = (c_out, c_in // groups, k, k)
        scale = (1.6 * groups / (c_in * k * k)) ** 0.5
        tensors[f"{name}.block.conv.weight"] = rng.normal(0, scale, shape).astype("float32")
        if bias:
            tensors[f"{name}.block.conv.bias"] = rng.normal(0, 0.2, c_out).astype("float32")

    def affine(name, channels):
        tensors[f"{name}.weight"] = rng.uniform(0.7, 1.3, channels).astype("float32")
        tensors[f"{name}.bias"] = rng.normal(0, 0.2, channels).astype("float32")

    def conv_norm(name, c_out, c_in, k=1, groups=1):
        conv(name, c_out, c_in, k, groups)
        norm = f"{name}.block.norm"
        affine(norm, c_out)
        tensors[f"{norm}.running_mean"] = rng.normal(0, 0.2, c_out).astype("float32")
        tensors[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, c_out).astype("float32")
        tensors[f"{norm}.num_batches_tracked"] = np.array(7, "int64")

    def inverted_residual(name, c_out, c_in):
        conv_norm(f"{name}.block.exp_1x1", 2 * c_in, c_in)
        conv_norm(f"{name}.block.conv_3x3", 2 * c_in, 2 * c_in, 3, groups=2 * c_in)
        conv_norm(f"{name}.block.red_1x1", c_out, 2 * c_in)

    conv_norm("conv_1", stem, 3, 3)
    inverted_residual("layer_1.0", stages[0], stem)
    inverted_residual("layer_2.0", stages[1], stages[0])
    inverted_residual("layer_2.1", stages[1], stages[1])
    for k, (layers, d) in enumerate(zip(LAYERS, dims, strict=True), start=3):
        c = stages[k - 1]
        inverted_residual(f"layer_{k}.0", c, stages[k - 2])
        conv_norm(f"layer_{k}.1.local_rep.0", c, c, 3, groups=c)
        conv(f"layer_{k}.1.local_rep.1", d, c)
        for j in range(layers):
            name = f"layer_{k}.1.global_rep.{j}"
            affine(f"{name}.pre_norm_attn.0", d)
            conv(f"{name}.pre_norm_attn.1.qkv_proj", 1 + 2 * d, d, bias=True)
            conv(f"{name}.pre_norm_attn.1.out_proj", d, d, bias=True)
            affine(f"{name}.pre_norm_ffn.0", d)
            conv(f"{name}.pre_norm_ffn.1", 2 * d, d, bias=True)
            conv(f"{name}.pre_norm_ffn.3", d, 2 * d, bias=True)
        affine(f"layer_{k}.1.global_rep.{layers}", d)
        conv_norm(f"layer_{k}.1.conv_proj", c, d)
    if task == "classification":
        shape = (num_classes, stages[-1])
        tensors["classifier.1.weight"] = rng.normal(0, 0.1, shape).astype("float32")
        tensors["classifier.1.bias"] = rng.normal(0, 0.2, num_classes).astype("float32")
        return tensors
    tensors = {f"encoder.{name}": value for name, value in tensors.items()}
    if task == "segmentation":
        aspp = "seg_head.aspp.aspp_layer"
        for i, k in enumerate((1, 3, 3, 3)):
            conv_norm(f"{aspp}.convs.{i}", ASPP_FILTERS, stages[4], k)
        conv_norm(f"{aspp}.convs.4.aspp_pool.conv_1x1", ASPP_FILTERS, stages[4])
        conv_norm(f"{aspp}.project", ASPP_FILTERS, 5 * ASPP_FILTERS)
        conv("seg_head.classifier", num_classes, ASPP_FILTERS, bias=True)
        return tensors
    maps = [*stages[3:], 256, 128, 128, 64]
    for c_in, c_out, stride in zip(maps[1:], maps[2:5], (64, 128, 256), strict=False):
        conv_norm(f"extra_layers.os_{stride}.dw_conv", c_in, c_in, 3, groups=c_in)
        conv_norm(f"extra_layers.os_{stride}.pw_conv", c_out, c_in)
    conv("extra_layers.os_-1.1", maps[5], maps[4])
    for i, (c_in, c, anchors) in enumerate(zip(maps, SSD_FILTERS, SSD_ANCHORS, strict=True)):
        name = f"ssd_heads.{i}.loc_cls_layer"
        if c != c_in:
            conv_norm(f"ssd_heads.{i}.proj_layer", c, c_in)
        if i < 5:
            conv_norm(f"{name}.dw_conv", c, c, 3, groups=c)
            name = f"{name}.pw_conv"
        conv(name, anchors * (4 + num_classes + 1), c, bias=True)
    return tensors


def auxiliary_head(num_classes: int, seed: int = 1) -> dict[str, np.ndarray]:
    """What a published segmenter of width 0.5 holds beside: a head for its training alone."""
    rng = np.random.default_rng(seed)
    shapes = {"0.block.conv.weight": (128, 192, 3, 3), "2.block.conv.bias": (num_classes,)}
    shapes |= {f"0.block.norm.{name}": (128,) for name in ("weight", "bias", "running_mean")}
    shapes |= {"0.block.norm.running_var": (128,), "2.block.conv.weight": (num_classes, 128, 1, 1)}
    shapes["0.block.norm.num_batches_tracked"] = ()
    return {
        f"seg_head.aux_head.{name}": rng.normal(size=shape).astype("float32")
        for name, shape in shapes.items()
    }


def _renamed(tensors: dict, patterns) -> dict:
    renamed = {}
    for name, value in tensors.items():
        for pattern, new in patterns:
            name = re.sub(pattern, new, name)
        renamed[name] = value
    return renamed


def _one_less(beginning: str, ending: str):
    return lambda found: beginning.format(int(found[1]) - 1) + found.expand(ending)


def to_timm(tensors: dict) -> dict:
    """The same weights by timm's names; both are for RGB."""
    return _renamed(
        tensors,
        (
            (r"^layer_(\d)\.", _one_less("stages.{}.", "")),
            (r"\.global_rep\.(\d)\.(weight|bias)$", r".norm.\2"),
            (r"\.local_rep\.1\.block\.conv", ".conv_1x1"),
            (r"\.local_rep\.0\.", ".conv_kxk."),
            (r"(qkv_proj|out_proj)\.block\.conv", r"\1"),
            (r"pre_norm_ffn\.1\.block\.conv", "mlp.fc1"),
            (r"pre_norm_ffn\.3\.block\.conv", "mlp.fc2"),
            (r"pre_norm_attn\.1\.", "attn."),
            (r"pre_norm_attn\.0", "norm1"),
            (r"pre_norm_ffn\.0", "norm2"),
            (r"block\.exp_1x1", "conv1_1x1"),
            (r"block\.conv_3x3", "conv2_kxk"),
            (r"block\.red_1x1", "conv3_1x1"),
            (r"\.block\.conv\.", ".conv."),
            (r"\.block\.norm\.", ".bn."),
            (r"global_rep", "transformer"),
            (r"^conv_1\.", "stem."),
            (r"^classifier\.1", "head.fc"),
        ),
    )


def to_hugging_face(tensors: dict) -> dict:
    """The same weights by Hugging Face's names; both are for RGB."""
    encoder = "mobilevitv2.encoder.layer.{}."
    return _renamed(
        tensors,
        (
            (r"^encoder\.", ""),
            (r"^seg_head\.aspp\.aspp_layer", "segmentation_head.aspp"),
            (r"^seg_head", "segmentation_head"),
            (r"\.aspp_pool\.", "."),
            (r"^layer_([12])\.(\d)", _one_less(encoder, r"layer.\2")),
            (r"^layer_(\d)\.0\.", _one_less(encoder, "downsampling_layer.")),
            (r"^layer_(\d)\.1\.", _one_less(encoder, "")),
            (r"\.global_rep\.(\d)\.(weight|bias)$", r".layernorm.\2"),
            (r"\.local_rep\.1\.", ".conv_1x1."),
            (r"\.local_rep\.0\.", ".conv_kxk."),
            (r"pre_norm_ffn\.1\.", "ffn.conv1."),
            (r"pre_norm_ffn\.3\.", "ffn.conv2."),
            (r"pre_norm_attn\.1\.", "attention."),
            (r"pre_norm_attn\.0", "layernorm_before"),
            (r"pre_norm_ffn\.0", "layernorm_after"),
            (r"block\.exp_1x1", "expand_1x1"),
            (r"block\.conv_3x3", "conv_3x3"),
            (r"block\.red_1x1", "reduce_1x1"),
            (r"conv_proj\.", "conv_projection."),
            (r"\.block\.conv\.", ".convolution."),
            (r"\.block\.norm\.", ".normalization."),
            (r"global_rep", "transformer.layer"),
            (r"^conv_1\.", "mobilevitv2.conv_stem."),
            (r"^classifier\.1", "classifier"),
        ),
    )


def resize_aligned(x, height, width):
    """(C, H, W) bilinearly, the corners' middles where they were."""
    for axis, size in ((1, height), (2, width)):
        old, places = np.arange(x.shape[axis]), np.linspace(0, x.shape[axis] - 1, size)
        x = np.apply_along_axis(lambda line, o=old, p=places: np.interp(p, o, line), axis, x)
    return x


class ReferenceV2(Reference):
    """The forward pass of one image at a time, in float64.

    Args:
        tensors: Weights by CVNets's names, for RGB images.
    """

    CLASSIFIER = "seg_head.classifier"

    def map_norm(self, x, name):
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return x * self.w[f"{name}.weight"][:, None, None] + self.w[f"{name}.bias"][:, None, None]

    def conv_bias(self, x, name):
        name = f"{name}.block.conv"
        return convolve(x, self.w[f"{name}.weight"]) + self.w[f"{name}.bias"][:, None, None]

    def attention(self, x, name):
        """(d, P, N): a softmax over N for each of P, one context vector each."""
        d = len(x)
        query, key, value = np.split(self.conv_bias(x, f"{name}.qkv_proj"), (1, 1 + d))
        scores = np.exp(query - query.max(-1, keepdims=True))
        context = (key * scores / scores.sum(-1, keepdims=True)).sum(-1, keepdims=True)
        return self.conv_bias(relu(value) * context, f"{name}.out_proj")

    def mobilevit_block(self, x, name, layers, dilation=1):
        x = resize_aligned(x, *(side + side % 2 for side in x.shape[1:]))
        x = self.conv_norm(x, f"{name}.local_rep.0", groups=len(x), dilation=dilation)
        x = convolve(x, self.w[f"{name}.local_rep.1.block.conv.weight"])
        d, height, width = x.shape
        places = [(top, left) for top in range(2) for left in range(2)]
        # (d, H, W) -> (d, P, N)
        x = np.stack([x[:, top::2, left::2].reshape(d, -1) for top, left in places], axis=1)
        for j in range(layers):
            layer = f"{name}.global_rep.{j}"
            attended = self.map_norm(x, f"{layer}.pre_norm_attn.0")
            x = x + self.attention(attended, f"{layer}.pre_norm_attn.1")
            hidden = self.conv_bias(self.map_norm(x, f"{layer}.pre_norm_ffn.0"),
                                    f"{layer}.pre_norm_ffn.1")  # fmt: skip
            x = x + self.conv_bias(silu(hidden), f"{layer}.pre_norm_ffn.3")
        x = self.map_norm(x, f"{name}.global_rep.{layers}")
        folded = np.empty((d, height, width))
        for position, (top, left) in enumerate(places):
            folded[:, top::2, left::2] = x[:, position].reshape(d, height // 2, width // 2)
        return self.conv_norm(folded, f"{name}.conv_proj", activation=None)

    def stages(self, image, output_stride=32):
        """RGB (H, W, 3) to the five stages' maps, channels last."""
        x = self.conv_norm(image.astype("float64").transpose(2, 0, 1), "conv_1", stride=2)
        x = self.inverted_residual(x, "layer_1.0", 1)
        maps = [x]
        for block, stride in enumerate((2, 1)):
            x = self.inverted_residual(x, f"layer_2.{block}", stride)
        maps.append(x)
        # What is lost in stride, the dilation makes up for: in the next stage's first convolution
        # it is that of the stage before, in the block its own.
        dilation = 1
        for k, layers in zip((3, 4, 5), LAYERS, strict=True):
            before, stride = dilation, 2
            if 2**k > output_stride:
                dilation, stride = 2 * dilation, 1
            x = self.inverted_residual(x, f"layer_{k}.0", stride, before)
            x = self.mobilevit_block(x, f"layer_{k}.1", layers, dilation)
            maps.append(x)
        return [x.transpose(1, 2, 0) for x in maps]

    def logits(self, image):
        """RGB (H, W, 3) to (K,)."""
        return self.dense(self.stages(image)[-1].mean((0, 1)), "classifier.1")
