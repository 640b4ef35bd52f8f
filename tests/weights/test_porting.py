"""Ported models answer as the originals do: stored answers and a NumPy forward pass."""

from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy

from mobilevit_keras.export import export_tflite, run_tflite
from mobilevit_keras.models import MobileViTImageClassifier, Preprocessing, load_model
from mobilevit_keras.weights import imagenet_class_names, load_checkpoint, save_checkpoint
from tests.weights import torch_file
from tests.weights.numpy_reference import Reference, random_checkpoint, to_hugging_face, to_timm
from tests.weights.written import assert_written

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity"
TOLERANCE = 1e-4
RENAME = {"cvnets": dict, "huggingface": to_hugging_face, "timm": to_timm}
# Stage 5 has three cells across in the second; the last divides by the patch at no stage.
STAND_IN_SHAPES = ((64, 64), (64, 96), (72, 104))


def write(path: Path, tensors: dict) -> Path:
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(tensors, path)
        return path
    return torch_file.write(path, tensors)


@pytest.fixture(scope="module")
def tensors() -> dict:
    """Random weights of XXS and seven classes, by CVNets's names."""
    return random_checkpoint("mobilevit_xxs", 7)


@pytest.fixture(scope="module")
def answers(tensors) -> list[tuple]:
    """Images, logits and stages as the NumPy forward pass has them, for each shape."""
    reference = Reference(tensors)
    rng = np.random.default_rng(1)
    images = [rng.uniform(size=(1, *shape, 3)).astype("float32") for shape in STAND_IN_SHAPES]
    return [
        (image, reference.logits(image[0])[None], [x[None] for x in reference.stages(image[0])])
        for image in images
    ]


@pytest.fixture(scope="module", params=RENAME)
def ported(request, tensors, answers, tmp_path_factory) -> tuple[MobileViTImageClassifier, list]:
    """A ported model and what the original answered: images, logits and the five stages.

    Stored checkpoints of two libraries where the checkout has them, else ones made here; CVNets's
    is always made here.
    """
    layout = request.param
    stored = {"huggingface": "hf", "timm": "timm"}.get(layout, "")
    path = PARITY / f"{stored}_mobilevit_xxs.safetensors"
    if path.is_file():
        content = np.load(path.with_suffix(".npz"))
        return load_checkpoint(path), [
            (
                content[f"images_{size}"],
                content[f"logits_{size}"],
                [
                    content[key]
                    for number in range(1, 6)
                    if (key := f"stage{number}_{size}") in content
                ],
            )
            for size in ("square", "wide", "odd")
        ]
    suffix = {"cvnets": ".pt", "huggingface": ".bin", "timm": ".safetensors"}[layout]
    path = tmp_path_factory.mktemp("checkpoint") / f"weights{suffix}"
    return load_checkpoint(write(path, RENAME[layout](tensors))), answers


def difference(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max())


def test_logits_and_stages_of_the_original(ported):
    model, originals = ported
    backbone = model.backbone
    outputs = [backbone.pyramid_outputs[f"P{number}"] for number in range(1, 6)]
    pyramid = keras.Model(backbone.input, outputs)
    for images, logits, stages in originals:
        assert difference(model(images), logits) < TOLERANCE
        # The published answers of timm hold logits only.
        for ours, theirs in zip(pyramid(images)[: len(stages)], stages, strict=True):
            assert difference(ours, theirs) < TOLERANCE


def test_answers_after_save_and_load(ported, tmp_path):
    model, originals = ported
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    assert again.preprocessing == model.preprocessing
    assert again.class_names == model.class_names
    for images, logits, _ in originals:
        assert difference(again(images), logits) < TOLERANCE


def centred(logits: np.ndarray) -> np.ndarray:
    """Logits but for the constant that softmax takes away."""
    return logits - logits.mean(-1, keepdims=True)


# The export knows of no layouts: one stands for all.
@pytest.mark.parametrize("ported", ["cvnets"], indirect=True)
def test_answers_of_the_exported_tflite_file(ported, tmp_path):
    model, originals = ported
    # The last shape is one that the patch does not divide.
    images, logits, _ = originals[-1]
    compared = 255 * np.concatenate([images, images[:, ::-1], 1.0 - images, images[..., ::-1]])
    export_tflite(model, tmp_path / "model.tflite", images.shape[1:3], images=compared)
    answers = run_tflite(tmp_path / "model.tflite", images * 255)
    assert difference(centred(np.log(answers.outputs["probabilities"])), centred(logits)) < 1e-3


@pytest.mark.parametrize("variant", ["mobilevit_xs", "mobilevit_s"])
def test_wider_variants_answer_as_numpy_does(tmp_path, variant):
    tensors = random_checkpoint(variant, 5)
    model = load_checkpoint(write(tmp_path / "weights.pt", tensors))
    assert (model.backbone.variant, model.num_classes) == (variant, 5)
    image = np.random.default_rng(2).uniform(size=(32, 64, 3)).astype("float32")
    assert difference(model(image[None])[0], Reference(tensors).logits(image)) < TOLERANCE


@pytest.mark.parametrize("layout", RENAME)
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors"])
def test_every_layout_in_every_file(tmp_path, tensors, layout, suffix):
    model = load_checkpoint(write(tmp_path / f"weights{suffix}", RENAME[layout](tensors)))
    values = {weight.path: weight.numpy() for weight in model.weights}
    np.testing.assert_array_equal(
        values["stem/conv/kernel"],
        tensors["conv_1.block.conv.weight"].transpose(2, 3, 1, 0)[:, :, ::-1],
    )
    np.testing.assert_array_equal(
        values["stage4_1/transformer_2/key/bias"],
        tensors["layer_4.1.global_rep.2.pre_norm_mha.1.qkv_proj.bias"][80:160],
    )
    np.testing.assert_array_equal(
        values["head/classifier/kernel"][0, 0], tensors["classifier.fc.weight"].T
    )


def test_preprocessing_and_class_names(tmp_path, tensors):
    thousand = tensors | {
        "classifier.fc.weight": np.zeros((1000, 320), "float32"),
        "classifier.fc.bias": np.zeros(1000, "float32"),
    }
    models = {
        layout: load_checkpoint(write(tmp_path / f"{layout}.pt", rename(thousand)))
        for layout, rename in RENAME.items()
    }
    assert models["cvnets"].preprocessing == Preprocessing(288, 256, "bilinear")
    assert models["huggingface"].preprocessing == Preprocessing(288, 256, "bilinear")
    assert models["timm"].preprocessing == Preprocessing(284, 256, "bicubic")
    names = models["timm"].class_names
    assert names == imagenet_class_names()
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")
    assert len(set(names)) == 1000
    seven = load_checkpoint(write(tmp_path / "seven.pt", tensors))
    assert seven.class_names is None


def test_channel_order_can_be_overridden(tmp_path, tensors, answers):
    path = write(tmp_path / "weights.pt", tensors)
    image, logits, _ = answers[0]
    as_rgb = load_checkpoint(path, channel_order="rgb")
    assert difference(as_rgb(image[..., ::-1].copy()), logits) < TOLERANCE
    assert difference(as_rgb(image), logits) > TOLERANCE
    assert difference(load_checkpoint(path, channel_order="bgr")(image), logits) < TOLERANCE
    with pytest.raises(ValueError, match='`channel_order` must be "rgb" or "bgr". Received: \'x\''):
        load_checkpoint(path, channel_order="x")


def test_weights_under_a_key_and_of_several_devices(tmp_path, tensors, answers):
    body = (
        b"}("
        + (torch_file.text("model_state_dict") + torch_file.state_dict(tensors))
        + (torch_file.text("epoch") + torch_file.integer(3) + b"u")
    )
    nested = torch_file.write(tmp_path / "nested.pt", tensors, body)
    parallel = write(
        tmp_path / "parallel.bin", {f"module.{name}": value for name, value in tensors.items()}
    )
    image, logits, _ = answers[0]
    for path in (nested, parallel):
        assert difference(load_checkpoint(path)(image), logits) < TOLERANCE


def test_half_precision_is_read(tmp_path, tensors):
    half = {
        name: value.astype("float16") if value.dtype == "float32" else value
        for name, value in tensors.items()
    }
    for suffix in (".pt", ".safetensors"):
        model = load_checkpoint(write(tmp_path / f"half{suffix}", half))
        kernel = {weight.path: weight for weight in model.weights}["head/classifier/kernel"]
        assert kernel.dtype == "float32"
        np.testing.assert_array_equal(kernel.numpy()[0, 0], half["classifier.fc.weight"].T)


def test_tensors_that_are_missing_left_over_or_misshapen_are_listed(tmp_path, tensors):
    missing, left_over, wrong = dict(tensors), dict(tensors), dict(tensors)
    del missing["layer_3.1.fusion.block.norm.running_var"], missing["conv_1.block.norm.bias"]
    left_over["layer_6.0.block.exp_1x1.block.conv.weight"] = np.zeros(1, "float32")
    wrong["layer_4.0.block.conv_3x3.block.conv.weight"] = np.zeros((96, 1, 5, 5), "float32")
    wrong["classifier.fc.weight"] = np.zeros((7, 321), "float32")
    for index, (changed, message) in enumerate(
        (
            (
                missing,
                r"2 missing, 0 left over. Missing: conv_1.block.norm.bias, "
                r"layer_3.1.fusion.block.norm.running_var\.",
            ),
            (left_over, r"1 left over. Left over: layer_6.0.block.exp_1x1.block.conv.weight\."),
            (
                wrong,
                r"2 of other shapes. Wrong shape: classifier.fc.weight \[7, 321\] instead of "
                r"\[7, 320\], layer_4.0.block.conv_3x3.block.conv.weight \[96, 1, 5, 5\] instead",
            ),
        )
    ):
        path = write(tmp_path / f"{index}.pt", changed)
        with pytest.raises(ValueError, match=message) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)


def test_a_width_of_no_variant_is_a_wrong_shape(tmp_path, tensors):
    tensors = tensors | {
        "layer_3.0.block.red_1x1.block.conv.weight": np.zeros((50, 48, 1, 1), "float32")
    }
    path = write(tmp_path / "weights.pt", tensors)
    with pytest.raises(ValueError, match=r"red_1x1.block.conv.weight \[50, 48, 1, 1\] instead"):
        load_checkpoint(path)


def test_wrong_variant_and_other_architectures(tmp_path, tensors):
    path = write(tmp_path / "weights.pt", tensors)
    with pytest.raises(ValueError, match="'mobilevit_xxs'. Received: 'mobilevit_s'"):
        load_checkpoint(path, variant="mobilevit_s")
    with pytest.raises(ValueError, match="The variant must be one of"):
        load_checkpoint(path, variant="resnet50")
    resnet = {"conv1.weight": np.zeros((64, 3, 7, 7), "float32"), "fc.bias": np.zeros(9, "float32")}
    with pytest.raises(ValueError, match="of one of CVNets, Hugging Face, timm. Received: 2 tens"):
        load_checkpoint(write(tmp_path / "resnet.pt", resnet))
    # Like many of timm's models, not only MobileViT, it calls its first convolution the stem.
    other = {"stem.conv.weight": np.zeros((16, 3, 3, 3), "float32")}
    with pytest.raises(ValueError, match="missing, 0 left over. Missing: final_conv.bn.bias, "):
        load_checkpoint(write(tmp_path / "other.safetensors", other))


@pytest.mark.parametrize("layout", RENAME)
def test_written_checkpoints_are_the_originals(tmp_path, tensors, layout):
    path = write(tmp_path / "weights.pt", tensors)
    save_checkpoint(load_checkpoint(path), tmp_path / "out.safetensors", layout)
    assert_written(tmp_path / "out.safetensors", RENAME[layout](tensors))


def test_class_names_and_preprocessing_survive_the_round_trip(tmp_path):
    model = MobileViTImageClassifier.from_variant(
        "mobilevit_xxs",
        num_classes=2,
        class_names=("Käse", "dog"),
        preprocessing=Preprocessing(72, 64, "bicubic"),
    )
    for layout in ("timm", "huggingface"):
        save_checkpoint(model, tmp_path / "out.safetensors", layout)
        again = load_checkpoint(tmp_path / "out.safetensors")
        assert again.class_names == model.class_names
        assert again.preprocessing == model.preprocessing
        for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "texts, message",
    [
        ({"class_names": '["a"]'}, "one name for each class"),
        ({"class_names": "7"}, "`class_names` must be a list of texts. Received: 7"),
        ({"class_names": "[1, 2, 3, 4, 5, 6, 7]"}, "`class_names` must be a list of texts"),
        ({"class_names": "["}, "Expecting value"),
        ({"preprocessing": '{"size": 3}'}, "`preprocessing` must hold its fields"),
        ({"preprocessing": '{"short_side": 3, "crop_size": 4}'}, "`crop_size` must be positive"),
    ],
)
def test_texts_that_are_not_ours(tmp_path, tensors, texts, message):
    safetensors.numpy.save_file(tensors, tmp_path / "weights.safetensors", texts)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "weights.safetensors")


def test_what_other_libraries_have_no_model_for_is_not_written(tmp_path):
    model = MobileViTImageClassifier.from_variant(
        "mobilevit_xxs", num_classes=2, use_fusion=False, activation="hard_swish"
    )
    with pytest.raises(ValueError, match="Received: use_fusion=False, activation='hard_swish'"):
        save_checkpoint(model, tmp_path / "out.safetensors", "timm")
    with pytest.raises(ValueError, match="`layout` must be one of .* Received: 'onnx'"):
        save_checkpoint(model, tmp_path / "out.safetensors", "onnx")
    with pytest.raises(
        ValueError, match="must be one of MobileViTImageClassifier, .* Received: MobileViTB"
    ):
        save_checkpoint(model.backbone, tmp_path / "out.safetensors", "timm")
    assert not list(tmp_path.iterdir())
