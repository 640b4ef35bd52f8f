"""`python -m convert weights` and `predict` as a person calls them."""

import os
import pickle

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from mobilevit_keras import commands
from mobilevit_keras.models import load_model
from mobilevit_keras.weights.presets import PRESETS
from tests.weights import torch_file
from tests.weights.numpy_reference import Reference, random_checkpoint, to_hugging_face, to_timm


@pytest.fixture(scope="module")
def tensors() -> dict:
    return random_checkpoint("mobilevit_xxs", 4)


@pytest.fixture
def source(tensors, tmp_path):
    return torch_file.write(tmp_path / "weights.pt", tensors)


@pytest.fixture
def convert(capfd):
    """Runs a subcommand in this process; gives exit status, output and error output."""

    def run(*arguments):
        def main(arguments):
            return commands.run_subcommand("convert", ("weights", "predict"), arguments)

        status = commands.run(main, list(map(str, arguments)))
        return status, *capfd.readouterr()

    return run


def test_a_checkpoint_becomes_a_model_and_weights_for_others(convert, source, tensors, tmp_path):
    status, output, errors = convert("weights", source, tmp_path / "model.keras")
    assert (status, errors) == (0, "")
    assert "mobilevit_xxs, 4 classes, " in output
    image = np.random.default_rng(0).uniform(size=(64, 64, 3)).astype("float32")
    logits = load_model(tmp_path / "model.keras")(image[None])[0]
    np.testing.assert_allclose(logits, Reference(tensors).logits(image), atol=1e-4)

    for layout, rename in (("timm", to_timm), ("huggingface", to_hugging_face)):
        out = tmp_path / f"{layout}.safetensors"
        status, output, errors = convert(
            "weights", tmp_path / "model.keras", out, "--layout", layout
        )
        assert (status, errors) == (0, "")
        written, expected = safetensors.numpy.load_file(out), rename(tensors)
        assert written.keys() == expected.keys()
        for name in expected.keys() - {key for key in expected if "num_batches" in key}:
            np.testing.assert_array_equal(written[name], expected[name])


def test_overrides(convert, source, tensors, tmp_path):
    status, _, _ = convert(
        *("weights", source, tmp_path / "rgb.keras"),
        *("--channel-order", "rgb", "--variant", "mobilevit_xxs"),
    )
    assert status == 0
    image = np.random.default_rng(0).uniform(size=(32, 32, 3)).astype("float32")
    logits = load_model(tmp_path / "rgb.keras")(image[None])[0]
    reference = Reference(tensors).logits(image[..., ::-1])
    np.testing.assert_allclose(logits, reference, atol=1e-4)


def mistakes(source, folder):
    """Arguments that a person may get wrong, and what the one line of error says."""
    keras_file = folder / "out.keras"
    written = folder / "out.safetensors"
    (folder / "truncated.pt").write_bytes(source.read_bytes()[:9999])
    (folder / "evil.pt").write_bytes(b"")
    evil = pickle.dumps({"a": os.getcwd}, 2)
    torch_file.write(folder / "evil.pt", {}, evil[2:-1])
    safetensors.numpy.save_file({"conv1.weight": np.zeros(3)}, folder / "resnet.safetensors")
    (folder / "no.keras").write_text("no model")
    return [
        ((folder / "truncated.pt", keras_file), "truncated or damaged"),
        ((folder / "evil.pt", keras_file), "posix.getcwd, which was not loaded or run"),
        ((folder / "resnet.safetensors", keras_file), "must hold a MobileViT in the layout of"),
        ((folder / "absent.pt", keras_file), "must be an existing file"),
        ((source, keras_file, "--variant", "mobilevit_s"), "must be that of the checkpoint"),
        ((source, folder / "out.h5"), "OUT must end in .keras"),
        ((source, written), "OUT must end in .keras, or in .safetensors where SOURCE ends"),
        ((source, keras_file, "--layout", "timm"), "`--layout` is for a .safetensors file"),
        ((folder / "no.keras", written), "`--layout` must be given"),
        ((folder / "no.keras", written, "--layout", "timm"), "must be a whole .keras file"),
        (
            (folder / "no.keras", written, "--layout", "timm", "--channel-order", "rgb"),
            "are for opening a checkpoint",
        ),
    ]


def test_mistakes_are_one_line_and_write_nothing(convert, source, tmp_path):
    cases = mistakes(source, tmp_path)
    before = sorted(tmp_path.iterdir())
    for arguments, message in cases:
        status, output, errors = convert("weights", *arguments)
        assert (status, output) == (2, ""), arguments
        assert message in errors
        assert errors.startswith("error: ") and errors.count("\n") == 1
        assert sorted(tmp_path.iterdir()) == before


def test_the_list_of_presets(convert):
    status, output, errors = convert("weights", "--list")
    assert (status, errors) == (0, "")
    words = " ".join(output.split())
    for line in (
        "mobilevit_s.cvnets_in1k 22.5 MB ImageNet top-1 78.3 https://docs-assets.",
        "mobilevit_xxs.hf_voc 7.6 MB VOC mIoU 73.6 https://huggingface.co/apple/",
        "mobilevit_xs.cvnets_coco 11.2 MB COCO mAP 24.8 https://docs-assets.",
        "mobilevitv2_200.cvnets_in22k_ft_in1k_384 74.0 MB ImageNet top-1 83.41 https://docs-assets.",
    ):
        assert line in words
    lines = output.splitlines()[: len(PRESETS)]
    assert len({line.index("https://") for line in lines}) == 1, "columns"
    assert "Licence: the authors' own licence" in output


def test_a_segmenter_goes_both_ways(convert, tmp_path):
    tensors = random_checkpoint("mobilevit_xxs", 3, task="segmentation")
    source = torch_file.write(tmp_path / "segmenter.pt", tensors)
    status, output, errors = convert("weights", source, tmp_path / "model.keras")
    assert (status, errors) == (0, "")
    assert "mobilevit_xxs, 3 classes, " in output
    assert "; stretched to 512, bilinear" in output
    written = tmp_path / "out.safetensors"
    status, output, errors = convert(
        "weights", tmp_path / "model.keras", written, "--layout", "cvnets"
    )
    assert (status, errors) == (0, "")
    assert safetensors.numpy.load_file(written).keys() == tensors.keys()


def test_prediction(convert, source, tmp_path):
    convert("weights", source, tmp_path / "model.keras")
    for index in range(2):
        Image.new("RGB", (300, 300), (90 * index, 10, 200)).save(tmp_path / f"{index}.png")
    images = [tmp_path / "0.png", tmp_path / "1.png"]
    status, output, errors = convert("predict", tmp_path / "model.keras", *images, "--top", 2)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert [line.split(": ")[0] for line in lines] == list(map(str, images))
    assert all(len(line.split(": ")[1].split(", ")) == 2 for line in lines)
    status, output, errors = convert("predict", tmp_path / "model.keras", source)
    assert (status, output) == (2, "")
    assert "image is needed. Received: " in errors
