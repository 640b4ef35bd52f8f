import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras import MobileViTBackbone, MobileViTImageClassifier, Preprocessing
from mobilevit_keras.layers import MapNorm
from mobilevit_keras.models import VARIANTS, load_model
from tests.tiny import build_tiny, coloured_images, load_tiny

# Of the classifier with 1,000 classes, and of the backbone; published and counted in other ports.
PARAMETERS = {
    "mobilevit_xxs": (1_272_024, 924_784),
    "mobilevit_xs": (2_317_848, 1_895_216),
    "mobilevit_s": (5_578_632, 4_833_952),
    "mobilevitv2_050": (1_370_593, 1_370_593 - 257_000),
    "mobilevitv2_075": (2_866_009, 2_866_009 - 385_000),
    "mobilevitv2_100": (4_901_841, 4_901_841 - 513_000),
    "mobilevitv2_125": (7_478_089, 7_478_089 - 641_000),
    "mobilevitv2_150": (10_594_753, 10_594_753 - 769_000),
    "mobilevitv2_175": (14_251_833, 14_251_833 - 897_000),
    "mobilevitv2_200": (18_449_329, 18_449_329 - 1_025_000),
}
V2 = {"attention": "separable", "num_heads": 1, "use_fusion": False}


def count(weights) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def test_the_table_of_parameters_is_complete():
    assert PARAMETERS.keys() == VARIANTS.keys()


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters(variant):
    model = MobileViTImageClassifier.from_variant(variant)
    found = count(model.trainable_weights), count(model.backbone.trainable_weights)
    assert found == PARAMETERS[variant]
    assert model.backbone.variant == variant


def test_constants_of_norms_and_places_of_dropout():
    model = MobileViTImageClassifier.from_variant("mobilevit_xs")
    layers = list(model._flatten_layers())
    batch_norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    layer_norms = [x for x in layers if isinstance(x, keras.layers.LayerNormalization)]
    assert {(x.epsilon, x.momentum) for x in batch_norms} == {(1e-5, 0.9)}
    assert {x.epsilon for x in layer_norms} == {1e-5}
    assert len(layer_norms) == 2 * (2 + 4 + 3) + 3
    rates = [x.rate for x in layers if isinstance(x, keras.layers.Dropout)]
    # Two of 0.1 in each transformer layer, attention and hidden ones of 0, and the classifier's.
    assert sorted(rates) == [0.0] * 18 + [0.1] * 19
    xxs = MobileViTBackbone.from_variant("mobilevit_xxs")
    assert {x.rate for x in xxs._flatten_layers() if isinstance(x, keras.layers.Dropout)} == {
        0.0,
        0.05,
    }


@pytest.mark.parametrize("output_stride, strides", [(32, 32), (16, 16), (8, 8)])
def test_pyramid_outputs(output_stride, strides):
    backbone = MobileViTBackbone.from_variant(
        "mobilevit_xxs", image_shape=(64, 96, 3), output_stride=output_stride
    )
    shapes = {name: tuple(x.shape[1:]) for name, x in backbone.pyramid_outputs.items()}
    expected = {}
    for level, filters in enumerate((16, 24, 48, 64, 80), start=1):
        stride = min(2**level, strides)
        expected[f"P{level}"] = (64 // stride, 96 // stride, filters)
    assert shapes == expected


def test_output_stride_8_dilates_only_stage_5s_depthwise_convolution():
    backbone = MobileViTBackbone.from_variant("mobilevit_xxs", output_stride=8)
    dilated = [
        layer.path if hasattr(layer, "path") else layer.name
        for layer in backbone._flatten_layers()
        if getattr(layer, "dilation_rate", 1) not in (1, (1, 1))
        and isinstance(layer, keras.layers.DepthwiseConv2D)
    ]
    assert len(dilated) == 1
    assert backbone.get_layer("stage5_0").dilation_rate == 2


def test_mobilevit_v2s_constants_and_dilations():
    """No dropout but the classifier's; its blocks are dilated where strides are taken away."""
    model = MobileViTImageClassifier.from_variant("mobilevitv2_050", 5, output_stride=8)
    layers = list(model._flatten_layers())
    assert {layer.epsilon for layer in layers if isinstance(layer, MapNorm)} == {1e-5}
    assert sum(isinstance(layer, MapNorm) for layer in layers) == 2 * (2 + 4 + 3) + 3
    dropouts = [layer for layer in layers if isinstance(layer, keras.layers.Dropout)]
    assert {layer.rate for layer in dropouts if layer is not model.head.drop} == {0.0}
    names = ("stage4_0", "stage4_1", "stage5_0", "stage5_1")
    rates = [model.backbone.get_layer(name).dilation_rate for name in names]
    assert rates == [1, 2, 2, 4]
    backbone = MobileViTBackbone.from_variant("mobilevitv2_050", output_stride=16)
    assert [backbone.get_layer(name).dilation_rate for name in names] == [1, 1, 1, 2]


def test_mobilevit_v2_rounds_its_maps_up():
    backbone = MobileViTBackbone.from_variant("mobilevitv2_050", image_shape=(104, 224, 3))
    shapes = [tuple(x.shape[1:3]) for x in backbone.pyramid_outputs.values()]
    assert shapes == [(52, 112), (26, 56), (14, 28), (8, 14), (4, 8)]
    assert backbone.map_multiples == (2, 2, 2)


@pytest.mark.parametrize("patch_size", [(2, 2, 2), (3, 3, 3), (4, 4, 4), (8, 4, 2)])
def test_patch_sizes_of_the_paper_share_their_weights(rng, patch_size):
    model = MobileViTImageClassifier.from_variant("mobilevit_xxs", 5, patch_size=patch_size)
    assert count(model.trainable_weights) == 1_272_024 - 995 * 321
    assert model(rng.random((1, 96, 64, 3), "float32")).shape == (1, 5)


@pytest.mark.parametrize("own", [{}, V2])
@pytest.mark.parametrize("height, width", [(32, 32), (33, 95), (160, 224)])
def test_any_size_from_32(rng, height, width, own):
    logits = build_tiny(**own)(rng.random((2, height, width, 3), "float32"))
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("own", [{}, V2])
def test_one_trace_of_a_training_step_serves_all_sizes(rng, own):
    model = build_tiny(**own)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def step(images):
        traces.append(None)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(images, training=True) ** 2)
        return tape.gradient(loss, model.trainable_weights)

    for batch, height, width in [(4, 32, 32), (2, 48, 40), (1, 33, 95)]:
        gradients = step(rng.random((batch, height, width, 3), "float32"))
        assert all(np.isfinite(g).all() for g in gradients)
    assert len(traces) == 1


def test_save_and_load_give_equal_outputs(rng, tmp_path):
    model = build_tiny(4, class_names=["a", "b", "c", "ä"], activation="hard_swish")
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    x = rng.random((2, 64, 48, 3), "float32")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.get_config() == model.get_config()
    assert loaded.class_names == ("a", "b", "c", "ä")
    assert loaded.preprocessing == Preprocessing(288, 256, "bilinear")
    assert loaded.backbone.pyramid_outputs["P3"].shape[-1] == 16


def test_mixed_float16_answers_in_float32():
    plain = load_tiny()
    model = build_tiny(dtype="mixed_float16")
    model.set_weights(plain.get_weights())
    x = coloured_images(4, 64) / 255.0
    logits, expected = model(x), np.asarray(plain(x))
    assert logits.dtype == "float32"
    assert np.ptp(expected, axis=0).min() > 1  # The images are told apart.
    np.testing.assert_allclose(logits, expected, atol=0.05)


def test_gradients_reach_every_weight_in_mixed_float16(rng):
    model = build_tiny(dtype="mixed_float16")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(rng.random((2, 32, 32, 3), "float32"), training=True) ** 2)
    for weight, gradient in zip(
        model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True
    ):
        assert gradient is not None and np.isfinite(gradient).all(), weight.path


@pytest.mark.slow
def test_the_jax_backend_gives_the_same_logits(rng, tmp_path):
    models = {"v1": build_tiny(), "v2": build_tiny(**V2)}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    images = {"even": rng.random((2, 64, 64, 3), "f"), "odd": rng.random((2, 40, 56, 3), "f")}
    np.savez(tmp_path / "images.npz", **images)
    code = (
        "import keras, numpy as np, mobilevit_keras.models\n"
        "assert keras.backend.backend() == 'jax'\n"
        "images = np.load('images.npz')\n"
        "for name in ('v1', 'v2'):\n"
        "    model = keras.models.load_model(f'{name}.keras')\n"
        "    np.savez(f'{name}.npz', **{k: np.asarray(model(images[k])) for k in images})\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        check=True,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
    )
    for name, model in models.items():
        logits = np.load(tmp_path / f"{name}.npz")
        for size, x in images.items():
            np.testing.assert_allclose(logits[size], model(x), atol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"variant": "mobilevit_m"}, "must be one of .* Received: 'mobilevit_m'"),
        ({"num_classes": 0}, "`num_classes` must be at least 1. Received: 0"),
        ({"num_classes": 2, "class_names": ["a"]}, "Received: 1 names, num_classes=2"),
        ({"output_stride": 4}, r"must be one of \[8, 16, 32\]. Received: 4"),
        ({"image_shape": (31, 64, 3)}, r"at least 32 pixels. Received: \(31, 64, 3\)"),
        ({"image_shape": (64, 64, 1)}, r"must be \(H, W, 3\). Received: \(64, 64, 1\)"),
        ({"patch_size": (2, 2)}, r"`patch_size` must hold 3 numbers. Received: \(2, 2\)"),
        ({"form": "folded"}, "`form` must be one of"),
        ({"attention": "linear"}, "must be one of .'multi_head', 'separable'.. Received: 'linear'"),
        (
            {"variant": "mobilevitv2_050", "use_fusion": True},
            "its block no fusion. Received: num_heads=1, use_fusion=True",
        ),
        ({"preprocessing": {"short_side": 200}}, "crop_size=256, short_side=200"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MobileViTImageClassifier.from_variant(**{"variant": "mobilevit_xxs", **arguments})


class TestLoading:
    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="model.keras"):
            load_model(tmp_path / "model.keras")

    def test_another_model(self, tmp_path):
        inputs = keras.Input((3,))
        keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "other.keras")
        with pytest.raises(ValueError, match="other.keras.* Functional"):
            load_model(tmp_path / "other.keras")

    @pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
    def test_a_file_cut_short(self, tmp_path, part):
        build_tiny().save(tmp_path / "model.keras")
        contents = (tmp_path / "model.keras").read_bytes()
        (tmp_path / "cut.keras").write_bytes(contents[: int(part * len(contents))])
        with pytest.raises(
            ValueError, match="whole .keras file. Received: .*cut.keras: File is not"
        ):
            load_model(tmp_path / "cut.keras")

    def test_a_small_file_that_unpacks_to_gigabytes(self, tmp_path):
        build_tiny().save(tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras", "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes(80 << 20))
        assert (tmp_path / "model.keras").stat().st_size < 1 << 20
        with pytest.raises(ValueError, match="at most 20 times its size. .*model.keras"):
            load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("first", ["keras", "mobilevit_keras"])
def test_importing_the_package_registers_its_classes(tmp_path, first):
    """In both orders of the imports, and nothing heavy comes along that no model needs."""
    build_tiny().save(tmp_path / "model.keras")
    code = (
        f"import {first}, keras, mobilevit_keras, sys\n"
        "model = keras.models.load_model('model.keras')\n"
        "assert isinstance(model, mobilevit_keras.MobileViTImageClassifier)\n"
        "heavy = ('keras_cv', 'tensorflow_datasets', 'tensorflowjs', 'mediapipe')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]"]


def test_help_does_not_wait_for_tensorflow():
    """Both programs' own help, and that of a command, from a fresh process."""
    for command in (["train"], ["train", "classification"], ["convert", "web"]):
        code = (
            "import runpy, sys; "
            f"sys.argv = ['x', *{command[1:]!r}, '--help']\n"
            f"try: runpy.run_module({command[0]!r}, run_name='__main__', alter_sys=True)\n"
            "except SystemExit: pass\n"
            "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]", command
