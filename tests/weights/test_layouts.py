"""The table of names: the same variables in every layout, each tensor's parts all used once."""

import collections
import re

import keras
import numpy as np
import pytest

from mobilevit_keras.models import MobileViTBackbone, MobileViTImageClassifier
from mobilevit_keras.weights import layouts
from mobilevit_keras.weights.checkpoint_file import open_checkpoint
from mobilevit_keras.weights.porting import assign, to_keras
from tests.weights import torch_file
from tests.weights.numpy_reference import Reference, random_checkpoint
from tests.weights.test_porting import PARITY, TOLERANCE, difference

CASES = [(layout, task) for layout in layouts.LAYOUTS for task in layouts.tasks(layout)]


@pytest.mark.parametrize("layout, task", CASES)
def test_every_part_of_every_tensor_has_one_variable(layout, task):
    entries = layouts.table(layout, task=task)
    assert len({entry.variable for entry in entries}) == len(entries)
    parts = collections.defaultdict(list)
    for entry in entries:
        parts[entry.tensor].append(entry)
    for shared in parts.values():
        assert [entry.part for entry in shared] == list(range(shared[0].parts))
    assert not any(re.search(r"[{}@]", entry.tensor + entry.variable) for entry in entries)


def test_layouts_name_the_same_variables():
    for task in (layouts.CLASSIFICATION, layouts.SEGMENTATION):
        named = [
            {entry.variable: entry.kind for entry in layouts.table(layout, task=task)}
            for layout in layouts.LAYOUTS
            if task in layouts.tasks(layout)
        ]
        assert len(named) > 1 and all(variables == named[0] for variables in named)
    model = MobileViTImageClassifier.from_variant("mobilevit_xxs", num_classes=2)
    table = layouts.table("timm")
    assert {weight.path for weight in model.weights} == {entry.variable for entry in table}


def test_other_depths_have_other_names():
    tensors = {entry.tensor for entry in layouts.table("timm", num_layers=(1, 4, 3))}
    assert "stages.2.1.transformer.0.attn.qkv.weight" in tensors
    assert "stages.2.1.transformer.1.attn.qkv.weight" not in tensors
    cvnets = {entry.tensor for entry in layouts.table("cvnets", num_layers=(1, 4, 3))}
    assert "layer_3.1.global_rep.1.weight" in cvnets


@pytest.mark.parametrize(
    "task, tensor, variable",
    [
        (
            "segmentation",
            "encoder.layer_5.1.fusion.block.norm.running_var",
            "stage5_1/fuse/norm/moving_variance",
        ),
        (
            "segmentation",
            "seg_head.aspp.aspp_layer.convs.4.aspp_pool.conv_1x1.block.conv.weight",
            "head/aspp_pool/conv/kernel",
        ),
        (
            "segmentation",
            "seg_head.classifier.classifier.block.conv.bias",
            "head/classifier/bias",
        ),
        (
            "detection",
            "extra_layers.os_64.dw_conv.block.norm.weight",
            "extra_64/depthwise/norm/gamma",
        ),
        ("detection", "extra_layers.os_-1.1.block.conv.bias", "extra_global/conv/bias"),
        ("detection", "ssd_heads.1.proj_layer.block.conv.weight", "head_1/project/conv/kernel"),
        (
            "detection",
            "ssd_heads.4.loc_cls_layer.pw_conv.block.conv.bias",
            "head_4/pointwise/conv/bias",
        ),
        (
            "detection",
            "ssd_heads.5.loc_cls_layer.block.conv.weight",
            "head_5/pointwise/conv/kernel",
        ),
    ],
)
def test_names_of_the_other_tasks(task, tensor, variable):
    names = {entry.tensor: entry.variable for entry in layouts.table("cvnets", task=task)}
    assert names[tensor] == variable
    with pytest.raises(ValueError, match=f"must be one of timm's: .* Received: '{task}'"):
        layouts.table("timm", task=task)


def segmenter(path, layout: str):
    """The backbone and the head's values of a segmentation checkpoint, every name accounted for."""
    entries = layouts.table(layout, task="segmentation")
    backbone = MobileViTBackbone.from_variant("mobilevit_xxs", output_stride=16)
    in_head = {entry for entry in entries if entry.variable.startswith("head/")}
    with open_checkpoint(path) as (tensors, _):
        known = {entry.tensor for entry in entries} | set(layouts.batch_norm_counters(entries))
        assert tensors.keys() <= known
        rest = [entry for entry in entries if entry not in in_head]
        assign(backbone, tensors, rest, flip_channels=True)
        head = {
            entry.variable: to_keras(tensors[entry.tensor].read(), entry.kind)
            for entry in in_head
            if entry.tensor in tensors
        }
    return backbone, head


def aspp(x, head: dict):
    """DeepLabv3's head at its own resolution, batch norms in inference."""

    def conv(x, name, dilation_rate=1):
        x = keras.ops.conv(
            x, head[f"{name}/conv/kernel"], padding="same", dilation_rate=dilation_rate
        )
        gamma, beta, mean, variance = (
            head[f"{name}/norm/{each}"]
            for each in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return keras.ops.relu((x - mean) / np.sqrt(variance + 1e-5) * gamma + beta)

    branches = [conv(x, f"head/aspp_{i}", rate) for i, rate in enumerate((1, 6, 12, 18))]
    pooled = conv(keras.ops.mean(x, axis=(1, 2), keepdims=True), "head/aspp_pool")
    branches.append(keras.ops.broadcast_to(pooled, branches[0].shape))
    x = conv(keras.ops.concatenate(branches, -1), "head/aspp_project")
    return keras.ops.conv(x, head["head/classifier/kernel"]) + head["head/classifier/bias"]


def test_a_segmenters_names_and_backbone(tmp_path):
    stored = PARITY / "hf_deeplabv3_mobilevit_xxs.safetensors"
    if stored.is_file():
        backbone, head = segmenter(stored, "huggingface")
        answers = np.load(stored.with_suffix(".npz"))
        for size in ("square", "wide", "odd"):
            logits = aspp(backbone(answers[f"images_{size}"]), head)
            assert difference(logits, answers[f"logits_{size}"]) < TOLERANCE
        return
    tensors = random_checkpoint("mobilevit_xxs", 2)
    encoder = {
        f"encoder.{name}": value
        for name, value in tensors.items()
        if not name.startswith(("conv_1x1_exp", "classifier"))
    }
    backbone, _ = segmenter(torch_file.write(tmp_path / "weights.pt", encoder), "cvnets")
    image = np.random.default_rng(0).uniform(size=(64, 96, 3)).astype("float32")
    expected = Reference(tensors).stages(image, output_stride=16)[-1]
    assert difference(backbone(image[None])[0], expected) < TOLERANCE
