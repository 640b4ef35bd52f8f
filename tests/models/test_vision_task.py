"""What every model on a backbone shares, on the classifier."""

import keras
import numpy as np
import pytest

import mobilevit_keras as mv
from mobilevit_keras.models import vision_task
from mobilevit_keras.models.steps import train_step_on
from tests.tiny import build_tiny


def test_frozen_layers_survive_save_and_load(tmp_path):
    model = build_tiny()
    mv.freeze(model, "stages:2")
    model.head.expand.norm.trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [w.path for w in loaded.trainable_weights] == [w.path for w in model.trainable_weights]
    assert len(loaded.trainable_weights) < len(build_tiny().trainable_weights) - 2
    assert loaded.get_config() == model.get_config()


def test_frozen_must_name_layers():
    config = build_tiny().get_config()
    with pytest.raises(ValueError, match="must name layers of the model. Received: .'stem9'."):
        mv.MobileViTImageClassifier.from_config({**config, "frozen": ["stem9"]})


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_policy_is_the_one_it_was_built_with(dtype, tmp_path):
    model = build_tiny(dtype=dtype)
    assert model.dtype_policy.name == dtype
    model.compile("sgd", mv.metrics.CrossEntropy())
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (dtype == "mixed_float16")
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").dtype_policy.name == dtype


def test_a_float32_model_stays_one_under_a_global_half_policy(rng):
    model = build_tiny()
    x = rng.random((2, 32, 32, 3), "float32")
    expected = np.asarray(model(x))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        twin = mv.MobileViTImageClassifier.from_config(model.get_config())
        assert twin.compute_dtype == "float32"
        twin.set_weights(model.get_weights())
        np.testing.assert_array_equal(twin(x), expected)
        np.testing.assert_allclose(mv.quantization.fold(model)(x), expected, atol=1e-4)
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_model_of_the_pyramid_shares_the_graph(rng):
    model = build_tiny()
    features = keras.Model(model.inputs[0], model.backbone.pyramid_outputs)
    x = rng.random((1, 64, 64, 3), "float32")
    outputs = features(x)
    assert outputs["P3"].shape == (1, 8, 8, 16)
    np.testing.assert_array_equal(outputs["P5"], model.backbone(x))


def test_a_step_is_traced_once(rng, monkeypatch):
    """The optimizer's variables made within it would have it traced twice."""
    traces = []

    def traced(*arguments):
        traces.append(arguments)
        return train_step_on(*arguments)

    monkeypatch.setattr(vision_task, "train_step_on", traced)
    model = build_tiny()
    model.compile()
    model.fit(rng.random((4, 32, 32, 3), "float32"), np.arange(4) % 3, batch_size=2, verbose=0)
    assert len(traces) == 1


@pytest.mark.slow
def test_compile_without_arguments_learns(rng):
    model = build_tiny()
    x = rng.random((6, 32, 32, 3), "float32")
    for labels in (np.arange(6) % 3, np.eye(3, dtype="float32")[np.arange(6) % 3]):
        model.compile()
        results = model.evaluate(x, labels, verbose=0, return_dict=True)
        assert list(results) == ["loss", "top1", "top5"]
        logits = np.asarray(model(x))
        wanted = np.arange(6) % 3
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        assert results["loss"] == pytest.approx(-log_p[np.arange(6), wanted].mean(), abs=1e-5)
        assert results["top1"] == pytest.approx((logits.argmax(-1) == wanted).mean())
    before = results["loss"]
    model.fit(x, np.arange(6) % 3, epochs=8, verbose=0)
    assert model.history.history["loss"][-1] < before


def test_a_saved_model_is_compiled_as_it_was(tmp_path, rng):
    model = build_tiny()
    model.compile("sgd", mv.metrics.CrossEntropy(0.1), metrics=[mv.metrics.TopAccuracy(2)])
    x, y = rng.random((4, 32, 32, 3), "float32"), np.array([0, 1, 2, 0])
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.iterations == 1
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(expected) == ["loss", "top2"]
    assert loaded.evaluate(x, y, verbose=0, return_dict=True) == expected


class TestPresets:
    @pytest.fixture
    def run(self, tmp_path):
        """A training's folder with a model of three classes."""
        model = build_tiny(class_names=("a", "b", "c"))
        model.save(tmp_path / "model.keras")
        return tmp_path, model

    def test_a_file_and_a_folder(self, run, rng):
        folder, model = run
        x = rng.random((1, 32, 32, 3), "float32")
        for source in (folder, folder / "model.keras", str(folder)):
            opened = mv.MobileViTImageClassifier.from_preset(source)
            np.testing.assert_array_equal(opened(x), model(x))
            assert opened.class_names == ("a", "b", "c")

    def test_other_classes(self, run):
        folder, model = run
        other = mv.MobileViTImageClassifier.from_preset(folder, num_classes=7)
        assert (other.num_classes, other.class_names) == (7, None)
        named = mv.MobileViTImageClassifier.from_preset(folder, class_names=("x", "y"))
        assert (named.num_classes, named.class_names) == (2, ("x", "y"))
        for new in (other, named):
            for a, b in zip(new.backbone.get_weights(), model.backbone.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)
        same = mv.MobileViTImageClassifier.from_preset(folder, num_classes=3)
        assert same.class_names == ("a", "b", "c")

    def test_the_class_is_respected(self, run):
        class Detector(mv.VisionTask):
            pass

        with pytest.raises(
            ValueError, match="Detector.from_preset must be .* MobileViTImageClassifier"
        ):
            Detector.from_preset(run[0])

    def test_nothing_by_that_name(self):
        rule = "a file that is there, the folder of a training or a preset"
        with pytest.raises(ValueError, match=rule):
            mv.MobileViTImageClassifier.from_preset("mobilevit_m.in1k")


def test_export_as_litert_says_what_to_call(tmp_path):
    with pytest.raises(ValueError, match="mobilevit_keras.export_tflite"):
        build_tiny().export(tmp_path / "x.tflite", format="litert")
    assert not (tmp_path / "x.tflite").exists()


def test_the_number_of_classes_comes_from_their_names():
    model = mv.MobileViTImageClassifier.from_variant("mobilevit_xxs", class_names=("cat", "dog"))
    assert (model.num_classes, model.class_names) == (2, ("cat", "dog"))
    assert mv.MobileViTImageClassifier.from_variant("mobilevit_xxs").num_classes == 1000
    with pytest.raises(ValueError, match="`num_classes` or `class_names` must be given"):
        mv.MobileViTImageClassifier(model.backbone)
