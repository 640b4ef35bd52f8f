import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras import MobileViTBackbone, MobileViTObjectDetector
from mobilevit_keras.boxes import decode_boxes, encode_boxes, match_anchors, suppress
from mobilevit_keras.layers.quantized_layers import QuantizedConv2D, QuantizedDepthwiseConv2D
from mobilevit_keras.models import VARIANTS, load_model
from mobilevit_keras.quantization import fold, quantize_aware
from mobilevit_keras.tasks.objects import UNSURE_SCORE, pair_boxes
from tests.tiny import build_tiny, build_tiny_detector, load_tiny_detector, object_images

# With COCO's 80 classes and background; published.
PARAMETERS = {
    "mobilevit_xxs": 1_755_050,
    "mobilevit_xs": 2_742_042,
    "mobilevit_s": 5_738_826,
}


def count(weights) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def test_the_table_of_parameters_is_complete():
    multi_head = {name for name, row in VARIANTS.items() if row.attention == "multi_head"}
    assert PARAMETERS.keys() == multi_head


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters(variant):
    model = MobileViTObjectDetector.from_variant(variant)
    assert count(model.trainable_weights) == PARAMETERS[variant]
    assert (model.variant, model.num_classes) == (variant, 80)


@pytest.mark.parametrize(
    "height, width, anchors", [(32, 32, 52), (33, 95, 172), (224, 288, 2062), (256, 384, 3076)]
)
def test_any_size_from_32(rng, height, width, anchors):
    model = build_tiny_detector()
    outputs = model(rng.random((2, height, width, 3), "float32"))
    assert outputs["boxes"].shape == (2, anchors, 4)
    assert outputs["logits"].shape == (2, anchors, 4)
    assert model.anchors(height, width).shape == (anchors, 4)
    assert all(np.isfinite(output).all() for output in outputs.values())


def test_on_mobilevit_v2(rng):
    """Where its backbone rounds a map's sides up, there are as many anchors as answers."""
    model = build_tiny_detector(attention="separable", num_heads=1, use_fusion=False)
    outputs = model(rng.random((1, 80, 288, 3), "float32"))
    assert outputs["boxes"].shape == (1, *model.anchors(80, 288).shape)
    decoding = model.decoding(80, 288)
    assert decoding.anchors.shape == model.anchors(80, 288).shape
    with pytest.raises(ValueError, match=r"multiples of 64 pixels. Received: \(80, 288\)"):
        decoding.as_json()
    # Where nothing is rounded a file says what any detector's does.
    plain = build_tiny_detector().decoding(64, 128)
    assert model.decoding(64, 128).as_json() == plain.as_json()
    backbone = MobileViTBackbone.from_variant("mobilevitv2_050")
    assert MobileViTObjectDetector(backbone, 3).variant == "mobilevitv2_050"


def test_the_backbones_output_stride():
    with pytest.raises(ValueError, match="`output_stride` must be 32. Received: 16"):
        build_tiny_detector(output_stride=16)


def test_scales_of_the_anchors():
    with pytest.raises(ValueError, match="below `max_scale`. Received: min_scale=0.5, max_scale=0"):
        build_tiny_detector(min_scale=0.5, max_scale=0.4)
    with pytest.raises(ValueError, match="`min_scale` must be above 0"):
        build_tiny_detector(min_scale=0.0)
    model = MobileViTObjectDetector.from_variant("mobilevit_xxs", 2, min_scale=0.3, max_scale=0.9)
    # The first map's small squares, and the last map's: the sixth of seven equal steps.
    assert model.anchors(64, 64)[0, 2:].numpy() == pytest.approx([0.3, 0.3])
    assert model.anchors(64, 64)[-4, 2:].numpy() == pytest.approx([0.8, 0.8])
    for new in (model.with_classes(("a", "b", "c")), model.from_backbone_of(model, 2)):
        found = new.min_scale, new.max_scale
        assert found == ((0.3, 0.9) if new.num_classes == 3 else (0.1, 1.05))


def test_targets_of_boxes_in_pixels(rng):
    model = build_tiny_detector()
    boxes = np.array([[[10, 20, 60, 70], [-1, -1, -1, -1]], [[0, 0, 90, 60], [5, 5, 9, 9]]])
    labels = np.array([[2, -1], [0, 1]])
    targets = model.targets({"boxes": boxes, "labels": labels}, 64, 96)
    anchors = model.anchors(64, 96)
    matched, classes = match_anchors(anchors, boxes / np.array([96, 64, 96, 64]), labels)
    np.testing.assert_array_equal(targets["logits"], classes)
    answers = np.asarray(classes) > 0
    expected = np.asarray(encode_boxes(matched, anchors))[answers]
    np.testing.assert_allclose(np.asarray(targets["boxes"])[answers], expected, atol=1e-5)
    assert set(np.unique(classes)) == {0, 1, 2, 3}

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def run(images):
        height, width = tf.unstack(tf.shape(images)[1:3])
        return model.targets({"boxes": boxes, "labels": labels}, height, width)

    graph = run(np.zeros((2, 64, 96, 3), "float32"))
    for name in targets:
        np.testing.assert_allclose(graph[name], targets[name], atol=1e-6)


class TestDetect:
    @pytest.fixture(scope="class")
    def model(self):
        return build_tiny_detector()

    @pytest.fixture(scope="class")
    def images(self):
        return np.random.default_rng(0).random((2, 64, 96, 3), "float32")

    def test_boxes_labels_and_scores(self, model, images):
        arguments = {"score_threshold": 0.3, "iou_threshold": 0.4, "maximum": 5}
        found = model.detect(images, **arguments)
        outputs = model(images)
        boxes = decode_boxes(outputs["boxes"], model.anchors(64, 96))
        scores = keras.ops.softmax(outputs["logits"])[..., 1:]
        expected = suppress(boxes, scores, **arguments)
        size = np.array([96, 64, 96, 64])
        for ours, theirs in zip(found, expected, strict=True):
            assert len(ours["labels"])
            np.testing.assert_array_equal(ours["labels"], theirs["labels"])
            np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-6)
            cut = np.clip(theirs["boxes"] * size, 0, size)
            np.testing.assert_allclose(ours["boxes"], cut, atol=1e-3)

    def test_in_pixels_of_the_original_images(self, model, images):
        plain = model.detect(images, score_threshold=0.3)
        found = model.detect(images, [(128, 192), (640, 96)], score_threshold=0.3)
        for ours, theirs, scale in zip(found, plain, ((2, 2), (1, 10)), strict=True):
            np.testing.assert_allclose(ours["boxes"], theirs["boxes"] * (scale * 2), rtol=1e-5)


def test_save_and_load_give_equal_outputs(rng, tmp_path):
    model = build_tiny_detector(class_names=["a", "b", "ä"])
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    x = rng.random((2, 64, 48, 3), "float32")
    outputs, expected = loaded(x), model(x)
    for name in ("boxes", "logits"):
        np.testing.assert_array_equal(outputs[name], expected[name])
    assert loaded.get_config() == model.get_config()
    assert type(loaded) is MobileViTObjectDetector
    assert loaded.class_names == ("a", "b", "ä")


def test_the_config_holds_every_argument():
    config = {
        **build_tiny_detector().get_config(),
        "min_scale": 0.05,
        "max_scale": 0.9,
        "frozen": ["extra_64"],
    }
    changed = MobileViTObjectDetector.from_config(config)
    assert changed.get_config() == config
    assert np.asarray(changed.anchors(64, 64))[0, 2] == np.float32(0.05)
    assert not changed.get_layer("extra_64").trainable


def test_mixed_float16_answers_in_float32(rng):
    model, plain = build_tiny_detector(dtype="mixed_float16"), build_tiny_detector()
    plain.set_weights(model.get_weights())
    x = rng.random((1, 64, 64, 3), "float32")
    outputs, expected = model(x), plain(x)
    for name in ("boxes", "logits"):
        assert outputs[name].dtype == "float32"
        np.testing.assert_allclose(outputs[name], expected[name], atol=0.05)


@pytest.mark.slow
def test_fit_lowers_the_loss_and_bears_batches_without_boxes(rng):
    model = build_tiny_detector(1)
    images = np.full((4, 64, 64, 3), 0.1, "float32")
    boxes = np.zeros((4, 1, 4))
    for i, (left, top) in enumerate(((5, 5), (30, 8), (8, 30), (28, 28))):
        images[i, top : top + 28, left : left + 28] = 0.9
        boxes[i] = [[left, top, left + 28, top + 28]]
    targets = model.targets({"boxes": boxes, "labels": np.zeros((4, 1))}, 64, 64)
    nothing = model.targets({"boxes": boxes, "labels": np.full((4, 1), -1)}, 64, 64)
    model.compile(keras.optimizers.Adam(3e-3))
    losses = [model.train_on_batch(images, targets) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    assert model.train_on_batch(images, nothing) >= 0
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    # Of the whole, not of each output by itself.
    expected = model.default_loss()(targets, model(images))
    found = model.evaluate(images, targets, verbose=0, batch_size=4)
    assert found == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("form", ["training", "deployment", "quantized"])
def test_in_the_order_of_files_for_as_long_as_the_block(form):
    model, (images, _) = load_tiny_detector(), object_images(2, 64, 128)
    if form != "training":
        model = fold(model) if form == "deployment" else quantize_aware(model, images / 255.0)
    weights, before = model.get_weights(), model(images / 255.0)
    with pytest.raises(KeyError), model.in_file_order():
        within = model(images / 255.0)
        raise KeyError
    # Each channel's kernel and grid go with it: equal to the last bit, but for how a product over
    # channels is cut.
    moved = np.asarray(before["boxes"])[..., [1, 0, 3, 2]]
    np.testing.assert_allclose(within["boxes"], moved, atol=1e-5)
    assert np.abs(moved - before["boxes"]).mean() > 0.1
    np.testing.assert_array_equal(within["logits"], before["logits"])
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


def test_other_classes_keep_all_other_weights_and_where_boxes_are():
    model = build_tiny_detector(class_names=("a", "b", "c"))
    new = model.with_classes(("x", "y"))
    assert (new.num_classes, new.class_names) == (2, ("x", "y"))
    old = {weight.path: weight.numpy() for weight in model.weights}
    others = set()
    for weight in new.weights:
        if "/logits/" in weight.path:
            others.add(weight.path)
        else:
            np.testing.assert_array_equal(weight, old[weight.path])
    assert len(others) == 12


def test_from_the_backbone_of_a_classifier():
    classifier = build_tiny()
    model = MobileViTObjectDetector.from_backbone_of(classifier, class_names=("a", "b"))
    assert (model.num_classes, model.backbone.config["output_stride"]) == (2, 32)
    for a, b in zip(classifier.backbone.weights, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(a, b)


class TestFold:
    def test_fold_keeps_the_function(self, rng):
        model = build_tiny_detector()
        folded = fold(model)
        assert folded.form == "deployment"
        assert {weight.name for weight in folded.weights} == {"kernel", "bias"}
        x = rng.random((2, 48, 80, 3), "float32")
        outputs, expected = folded(x), model(x)
        for name in ("boxes", "logits"):
            np.testing.assert_allclose(outputs[name], expected[name], atol=1e-4)

    def test_operations_that_every_runtime_has(self):
        model = fold(build_tiny_detector(), image_shape=(64, 96, 3))
        run = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec((1, 64, 96, 3))])
        operations = run.get_concrete_function().graph.get_operations()
        assert max(t.shape.rank or 0 for op in operations for t in op.outputs) == 4
        assert "SpaceToDepth" not in {op.type for op in operations}


@pytest.fixture(scope="module")
def sharp():
    """A trained detector whose logits are far larger than its boxes' numbers."""
    model = load_tiny_detector()
    for level in range(6):
        for weight in model.get_layer(f"head_{level}").logits.weights:
            weight.assign(3.0 * weight)
    return model


@pytest.fixture(scope="module")
def objects():
    """Images in [0, 1] and their boxes."""
    images, boxes = object_images(8, 64, 128, seed=3)
    return images / 255.0, boxes


@pytest.fixture(scope="module")
def twin(sharp, objects):
    return quantize_aware(sharp, objects[0])


class TestQuantized:
    def test_boxes_and_logits_have_grids_of_their_own(self, sharp, twin, objects):
        expected = sharp(objects[0], training=False)
        outputs = twin(objects[0], training=False)
        largest = {name: np.abs(values).max() for name, values in expected.items()}
        assert largest["logits"] > 1.5 * largest["boxes"]
        for name in ("boxes", "logits"):
            step = float(twin.get_layer(f"{name}_quantizer").step)
            codes = np.asarray(outputs[name]) / step
            np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)
            assert largest[name] / step > 100

    def test_every_convolution_knows_its_grids(self, twin):
        for layer in twin._flatten_layers():
            if isinstance(layer, QuantizedConv2D | QuantizedDepthwiseConv2D):
                assert float(layer.input_step) > 0.0, layer.path
                # The mean's own grid, and not that of the map, is what the global level is on.
                assert layer._output_step is not None, layer.path
        mean = float(twin.get_layer("pool_quantizer").step)
        assert float(twin.get_layer("extra_global").conv.input_step) == pytest.approx(mean)

    def test_it_finds_what_the_float_model_finds(self, sharp, twin, objects):
        pairs = pair_boxes(
            *(each.detect(objects[0], score_threshold=UNSURE_SCORE) for each in (sharp, twin))
        )
        assert pairs.clear > 10 and pairs.agreement > 0.9 and pairs.mean_iou > 0.85

    @pytest.mark.slow
    def test_it_can_be_trained_and_saved(self, sharp, twin, objects, tmp_path):
        images, boxes = objects
        model = quantize_aware(sharp, images)
        targets = model.targets(boxes, 64, 128)
        model.compile(keras.optimizers.Adam(1e-4), jit_compile=False)
        # No object is so small that an anchor of the first map answers for it.
        trained = (model.get_layer("head_0").logits, model.get_layer("head_1").boxes)
        before = [layer.kernel.numpy() for layer in trained]
        history = model.fit(images, targets, batch_size=4, verbose=0)
        assert np.isfinite(history.history["loss"][0])
        for layer, kernel in zip(trained, before, strict=True):
            assert np.any(layer.kernel.numpy() != kernel), layer.path
        twin.save(tmp_path / "twin.keras")
        loaded = load_model(tmp_path / "twin.keras")
        for name, values in loaded(images, training=False).items():
            np.testing.assert_array_equal(values, twin(images, training=False)[name])
