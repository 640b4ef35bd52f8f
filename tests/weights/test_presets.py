"""Presets come from a server once, whole and of the right hash, or not at all."""

import dataclasses
import hashlib
import http.server
import threading

import numpy as np
import pytest

import convert
import mobilevit_keras
from mobilevit_keras import commands
from mobilevit_keras.models import (
    VARIANTS,
    MobileViTImageClassifier,
    MobileViTImageSegmenter,
    MobileViTObjectDetector,
    Preprocessing,
    load_model,
)
from mobilevit_keras.weights import (
    FIGURES,
    PRESETS,
    Preset,
    download_preset,
    load_checkpoint,
    load_preset,
    load_weights_or_preset,
    presets,
    save_checkpoint,
)
from tests.weights import torch_file
from tests.weights.numpy_reference import random_checkpoint

NAME = "mobilevit_xxs.test_in1k"
# By the end of a preset's tag: its task and its number of classes.
DATA_SETS = {
    **dict.fromkeys(
        ("in1k", "in1k_384", "in22k_ft_in1k", "in22k_ft_in1k_384"), ("classification", 1000)
    ),
    "voc": ("segmentation", 21),
    "ade20k": ("segmentation", 150),
    "coco": ("detection", 80),
}


class Server:
    """Hands `content` out under any name; counts requests and can break off half-way.

    Attributes:
        content: The bytes of every file.
        requests: How many have been asked for.
        breaks_off: Whether the connection ends after half of them.
        address: The server's address.
    """

    def __init__(self) -> None:
        self.content, self.requests, self.breaks_off = b"", 0, False
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(owner.content)))
                self.end_headers()
                half = len(owner.content) // 2
                self.wfile.write(owner.content[:half] if owner.breaks_off else owner.content)

            def log_message(self, *arguments):
                """Writes no log."""

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    server = Server()
    server.content = torch_file.write(
        tmp_path / "source.pt", random_checkpoint("mobilevit_xxs", 3)
    ).read_bytes()
    preset = Preset("mobilevit_xxs", f"{server.address}/weights.pt", None, 1.0, 69.0, 3)
    monkeypatch.setitem(PRESETS, NAME, preset)
    yield server
    server.http.shutdown()
    server.http.server_close()


def publish(monkeypatch, **changes) -> None:
    monkeypatch.setitem(PRESETS, NAME, dataclasses.replace(PRESETS[NAME], **changes))


def test_table():
    for name, preset in PRESETS.items():
        variant, _, tag = name.partition(".")
        assert preset.variant == variant in VARIANTS
        origin, _, data_set = tag.partition("_")
        assert origin in ("cvnets", "hf", "timm")
        assert (preset.task, preset.num_classes) == DATA_SETS[data_set]
        assert preset.num_classes in FIGURES
        assert preset.source.startswith("https://")
        assert preset.sha256 is None or len(bytes.fromhex(preset.sha256)) == 32
        assert preset.licence
    assert len({preset.file_name for preset in PRESETS.values()}) == len(PRESETS)
    of_attention = {
        "multi_head": ("cvnets_in1k", "cvnets_voc", "hf_voc", "cvnets_coco"),
        "separable": (
            "cvnets_in1k", "cvnets_in1k_384", "timm_in1k", "cvnets_coco", "cvnets_ade20k",
        ),
    }  # fmt: skip
    for variant, row in VARIANTS.items():
        for tag in of_attention[row.attention]:
            assert f"{variant}.{tag}" in PRESETS


def test_addresses_of_the_second_generation():
    classifiers = f"{presets._CVNETS_V2}classification/mobilevitv2/"
    for name, end in (
        ("050.cvnets_in1k", "imagenet1k/256x256/mobilevitv2-0.5.pt"),
        ("125.cvnets_in1k_384", "imagenet1k/384x384/mobilevitv2-1.25.pt"),
        ("175.cvnets_in22k_ft_in1k", "imagenet21k_to_1k/256x256/mobilevitv2-1.75.pt"),
        ("200.cvnets_in22k_ft_in1k_384", "imagenet21k_to_1k/384x384/mobilevitv2-2.0.pt"),
    ):
        assert PRESETS[f"mobilevitv2_{name}"].source == classifiers + end
    preset = PRESETS["mobilevitv2_150.timm_in22k_ft_in1k_384"]
    assert "/timm/mobilevitv2_150.cvnets_in22k_ft_in1k_384/" in preset.source
    assert preset.file_name == "timm-mobilevitv2_150-in22k_ft_in1k_384.safetensors"
    # What people have in their caches stays where it is looked for.
    assert PRESETS["mobilevitv2_150.timm_in1k"].file_name == "timm-mobilevitv2_150.safetensors"


def test_a_preset_of_another_image_size_says_so(server, tmp_path, monkeypatch, capfd):
    assert PRESETS["mobilevitv2_100.cvnets_in1k"].preprocessing is None
    wanted = PRESETS["mobilevitv2_100.cvnets_in1k_384"].preprocessing
    assert wanted == Preprocessing(384, 384, "bicubic")
    assert PRESETS["mobilevitv2_200.timm_in22k_ft_in1k_384"].preprocessing == wanted
    publish(monkeypatch, preprocessing=wanted)
    assert load_preset(NAME).preprocessing == wanted
    arguments = ["weights", NAME, str(tmp_path / "model.keras")]
    assert commands.run_subcommand(convert.__name__, ("weights",), arguments) == 0
    assert "short side 384, crop 384, bicubic" in capfd.readouterr().out
    assert load_model(tmp_path / "model.keras").preprocessing == wanted


@pytest.mark.parametrize(
    "task, num_classes, model_class, names, side",
    [
        ("segmentation", 21, MobileViTImageSegmenter, ("background", "tvmonitor"), 512),
        ("segmentation", 150, MobileViTImageSegmenter, ("wall", "flag"), 512),
        ("detection", 80, MobileViTObjectDetector, ("person", "toothbrush"), 320),
    ],
)
def test_dense_presets(server, tmp_path, monkeypatch, task, num_classes, model_class, names, side):
    tensors = random_checkpoint("mobilevit_xxs", num_classes, task=task)
    server.content = torch_file.write(tmp_path / "dense.pt", tensors).read_bytes()
    publish(monkeypatch, num_classes=num_classes, task=task)
    model = model_class.from_preset(NAME)
    assert type(model) is model_class
    assert (model.class_names[0], model.class_names[-1]) == names
    assert len(model.class_names) == num_classes
    assert model.preprocessing == Preprocessing(crop_size=side, resize="stretch")
    assert model_class.from_preset(NAME, class_names=("a", "b")).num_classes == 2
    with pytest.raises(ValueError, match=f"test_in1k, which holds a {model_class.__name__}"):
        MobileViTImageClassifier.from_preset(NAME)
    assert server.requests == 1


def test_a_preset_is_downloaded_once(server, tmp_path, capsys):
    model = MobileViTImageClassifier.from_preset(NAME)
    expected = load_checkpoint(tmp_path / "source.pt")
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    printed = capsys.readouterr().out
    assert f"sha256 {hashlib.sha256(server.content).hexdigest()}, not published" in printed
    assert "the authors' own licence" in printed
    assert mobilevit_keras.load_preset(NAME).num_classes == 3
    assert server.requests == 1
    # The hash is news at the first use only.
    assert "sha256" not in capsys.readouterr().out


def test_a_broken_download_leaves_nothing_and_is_begun_anew(server):
    server.breaks_off = True
    with pytest.raises(OSError, match=f"{NAME} could not be downloaded"):
        download_preset(NAME)
    assert not list(presets.cache_folder().iterdir())
    server.breaks_off = False
    assert download_preset(NAME).read_bytes() == server.content


def test_what_a_killed_download_left_is_not_taken(server):
    path = presets.cache_folder() / PRESETS[NAME].file_name
    path.parent.mkdir(parents=True)
    path.with_name("partial-" + path.name).write_bytes(server.content[:99])
    assert download_preset(NAME).read_bytes() == server.content


def test_without_a_network_the_message_says_where_to_put_the_file(server, tmp_path, monkeypatch):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(OSError, match="Without a network, download http://.*weights.pt") as caught:
        download_preset(NAME)
    place = presets.cache_folder() / PRESETS[NAME].file_name
    assert f"put it at {place}" in str(caught.value)
    place.write_bytes(server.content)
    assert load_preset(NAME).num_classes == 3


def test_another_hash_than_the_published_one_is_refused(server, monkeypatch, capsys):
    publish(monkeypatch, sha256="0" * 64)
    with pytest.raises(ValueError, match=f"of sha256 {'0' * 64}. Received: "):
        download_preset(NAME)
    publish(monkeypatch, sha256=hashlib.sha256(server.content).hexdigest())
    capsys.readouterr()
    download_preset(NAME)
    assert "as published" in capsys.readouterr().out


def test_a_file_that_changed_since_its_first_use_is_refused(server):
    path = download_preset(NAME)
    path.write_bytes(server.content + b"x")
    with pytest.raises(ValueError, match="Delete it to download it again"):
        download_preset(NAME)


def test_a_preset_of_another_variant_is_refused(server, monkeypatch):
    publish(monkeypatch, variant="mobilevit_s")
    with pytest.raises(ValueError, match="'mobilevit_xxs'. Received: 'mobilevit_s'"):
        load_preset(NAME)


def test_whatever_a_person_names(server, tmp_path):
    model = load_weights_or_preset(NAME)
    model.save(tmp_path / "model.keras")
    save_checkpoint(model, tmp_path / "model.safetensors", "timm")
    for name in ("model.keras", "model.safetensors", "source.pt"):
        again = load_weights_or_preset(tmp_path / name)
        for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    message = "Received: 'mobilevit_s.cvnets_in21k'; did you mean mobilevit_s.cvnets_in1k or "
    for load in (load_weights_or_preset, MobileViTImageClassifier.from_preset, load_preset):
        with pytest.raises(ValueError, match=message):
            load("mobilevit_s.cvnets_in21k")
    # What is like none of them is most likely a file that is not there.
    with pytest.raises(ValueError, match="a file that is there, .* Received: 'runs/old.keras'.$"):
        load_weights_or_preset("runs/old.keras")
