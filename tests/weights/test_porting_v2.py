"""Ported MobileViTv2s answer as the originals do, and go back as they came."""

import numpy as np
import pytest

from mobilevit_keras.export import export_tflite, run_tflite
from mobilevit_keras.models import MobileViTImageClassifier, Preprocessing
from mobilevit_keras.weights import load_checkpoint, save_checkpoint
from tests.weights.numpy_reference_v2 import (
    ReferenceV2,
    random_checkpoint,
    to_hugging_face,
    to_timm,
)
from tests.weights.test_porting import PARITY, centred, difference, write
from tests.weights.written import assert_written

TOLERANCE = 2e-4
RENAME = {"cvnets": dict, "huggingface": to_hugging_face, "timm": to_timm}
STORED = {
    "cvnets": PARITY / "cvnets_mobilevitv2_050.pt",
    "huggingface": PARITY / "hf_mobilevitv2_050.safetensors",
    "timm": PARITY / "timm_mobilevitv2_050.safetensors",
}


@pytest.fixture(scope="module")
def tensors() -> dict:
    return random_checkpoint(5)


@pytest.mark.parametrize("layout", RENAME)
def test_logits_of_a_forward_pass_in_numpy(tmp_path, tensors, layout):
    model = load_checkpoint(write(tmp_path / "weights.safetensors", RENAME[layout](tensors)))
    assert isinstance(model, MobileViTImageClassifier)
    assert (model.variant, model.num_classes) == ("mobilevitv2_050", 5)
    assert model.preprocessing == Preprocessing(288, 256, "bicubic")
    # Stage 3 has 9 x 13 cells in the last, which become 10 x 14, and stage 4 then 5 x 7.
    for shape in ((32, 64), (72, 104)):
        image = np.random.default_rng(1).uniform(size=(*shape, 3)).astype("float32")
        expected = ReferenceV2(tensors).logits(image)
        assert difference(model(image[None])[0], expected) < TOLERANCE


@pytest.mark.parametrize("layout", RENAME)
def test_written_checkpoints_are_the_originals(tmp_path, tensors, layout):
    path = write(tmp_path / "weights.pt", tensors)
    save_checkpoint(load_checkpoint(path), tmp_path / "out.safetensors", layout)
    assert_written(tmp_path / "out.safetensors", RENAME[layout](tensors))


def test_what_the_two_generations_lack_of_each_other_is_listed(tmp_path, tensors):
    tensors = dict(tensors)
    del tensors["layer_4.1.global_rep.3.pre_norm_attn.1.qkv_proj.block.conv.bias"]
    tensors["layer_3.1.fusion.block.conv.weight"] = np.zeros((1, 1, 1, 1), "float32")
    message = (
        r"1 missing, 1 left over. Missing: layer_4.1.global_rep.3.pre_norm_attn.1.qkv_proj.block."
        r"conv.bias. Left over: layer_3.1.fusion.block.conv.weight\."
    )
    with pytest.raises(ValueError, match=message):
        load_checkpoint(write(tmp_path / "weights.pt", tensors))


def test_widths_of_no_one_number_are_not_written(tmp_path):
    model = MobileViTImageClassifier.from_variant("mobilevitv2_050", 2, stem_filters=24)
    with pytest.raises(ValueError, match="Received: stem_filters=24"):
        save_checkpoint(model, tmp_path / "out.safetensors", "timm")


@pytest.mark.parametrize("layout", STORED)
def test_logits_of_the_originals(layout):
    """Stored ones, where the checkout has them; the NumPy pass stands for them elsewhere."""
    if not STORED[layout].is_file():
        return
    model = load_checkpoint(STORED[layout])
    content = np.load(STORED[layout].with_suffix(".npz"))
    for size in ("square", "wide", "odd"):
        if (layout, size) == ("huggingface", "odd"):
            # It never resizes: its last row and column become zeros.
            continue
        images = content[f"images_{size}"] / np.float32(255)
        assert difference(model(images), content[f"logits_{size}"]) < TOLERANCE
        if f"stage5_{size}" in content:
            stage5 = model.backbone(images)
            assert difference(stage5, content[f"stage5_{size}"]) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("size", ["square", "wide", "odd"])
def test_answers_of_the_exported_tflite_file(tmp_path, tensors, size):
    path, shape = STORED["cvnets"], {"square": (64, 64), "wide": (48, 80), "odd": (40, 56)}[size]
    if path.is_file():
        content = np.load(path.with_suffix(".npz"))
        images, logits = content[f"images_{size}"].astype("float32"), content[f"logits_{size}"]
    else:
        path = write(tmp_path / "weights.pt", tensors)
        images = np.random.default_rng(2).integers(0, 256, (2, *shape, 3)).astype("float32")
        logits = np.stack([ReferenceV2(tensors).logits(image / 255) for image in images])
    compared = np.concatenate([images, images[:, ::-1], 255 - images, images[..., ::-1]])
    model = load_checkpoint(path)
    report = export_tflite(model, tmp_path / "m.tflite", images.shape[1:3], images=compared)
    assert report["structure"]["xnnpack_partitions"] == 1
    answers = run_tflite(tmp_path / "m.tflite", images)
    assert difference(centred(np.log(answers.outputs["probabilities"])), centred(logits)) < 1e-3
