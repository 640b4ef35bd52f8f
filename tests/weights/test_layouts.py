"""The table of names: the same variables in every layout, each tensor's parts all used once."""

import collections
import re

import pytest

from mobilevit_keras.models import (
    MobileViTImageClassifier,
    MobileViTImageSegmenter,
    MobileViTObjectDetector,
)
from mobilevit_keras.weights import layouts

CASES = [
    (layout, task, attention)
    for layout in layouts.LAYOUTS
    for attention in ("multi_head", "separable")
    for task in layouts.tasks(layout, attention)
]


@pytest.mark.parametrize("layout, task, attention", CASES)
def test_every_part_of_every_tensor_has_one_variable(layout, task, attention):
    entries = layouts.table(layout, task=task, attention=attention)
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


MODELS = {
    layouts.CLASSIFICATION: MobileViTImageClassifier,
    layouts.SEGMENTATION: MobileViTImageSegmenter,
    layouts.DETECTION: MobileViTObjectDetector,
}


@pytest.mark.parametrize("task", MODELS)
def test_the_table_names_every_variable_of_the_model(task):
    model = MODELS[task].from_variant("mobilevit_xxs", num_classes=2)
    table = layouts.table("cvnets", task=task)
    assert {weight.path for weight in model.weights} == {entry.variable for entry in table}


@pytest.mark.parametrize("task", MODELS)
def test_the_layouts_of_mobilevit_v2(task):
    model = MODELS[task].from_variant("mobilevitv2_050", num_classes=2)
    variables = {weight.path for weight in model.weights}
    filters = model.backbone.config["stage_filters"]
    known = [name for name in layouts.LAYOUTS if task in layouts.tasks(name, "separable")]
    assert len(known) == {"classification": 3, "segmentation": 2, "detection": 1}[task]
    for layout in known:
        entries = layouts.table(layout, task=task, attention="separable", stage_filters=filters)
        assert {entry.variable for entry in entries} == variables
        assert layouts.LAYOUTS[layout].inputs["separable"].channel_order == "rgb"
    with pytest.raises(ValueError, match="Received: 'depth', with separable attention"):
        layouts.table("cvnets", task="depth", attention="separable")


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
            "head/aspp/pooled/conv/kernel",
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
        ("detection", "extra_layers.os_-1.1.block.conv.weight", "extra_global/conv/kernel"),
        ("detection", "ssd_heads.1.proj_layer.block.conv.weight", "head_1/project/conv/kernel"),
        (
            "detection",
            "ssd_heads.4.loc_cls_layer.pw_conv.block.conv.bias",
            ["head_4/boxes/bias", "head_4/logits/bias"],
        ),
        (
            "detection",
            "ssd_heads.5.loc_cls_layer.block.conv.weight",
            ["head_5/boxes/kernel", "head_5/logits/kernel"],
        ),
    ],
)
def test_names_of_the_other_tasks(task, tensor, variable):
    table = layouts.table("cvnets", task=task)
    found = [entry.variable for entry in table if entry.tensor == tensor]
    assert found == ([variable] if isinstance(variable, str) else variable)
    with pytest.raises(ValueError, match=f"must be one of timm's: .* Received: '{task}'"):
        layouts.table("timm", task=task)
