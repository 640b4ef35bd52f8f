import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras import MobileViTImageClassifier, MobileViTImageSegmenter
from mobilevit_keras.models import VARIANTS, load_model
from mobilevit_keras.quantization import fold
from tests.tiny import build_tiny, build_tiny_segmenter

# With 21 classes; published.
PARAMETERS = {
    "mobilevit_xxs": 1_854_853,
    "mobilevit_xs": 2_944_069,
    "mobilevit_s": 6_357_941,
}


def count(weights) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def test_the_table_of_parameters_is_complete():
    multi_head = {name for name, row in VARIANTS.items() if row.attention == "multi_head"}
    assert PARAMETERS.keys() == multi_head


def test_on_mobilevit_v2(rng):
    model = MobileViTImageSegmenter.from_variant("mobilevitv2_050", 3)
    # At output stride 16, stages 4 and 5 have 5 x 7 cells, which become even.
    assert model(rng.random((1, 80, 112, 3), "float32")).shape == (1, 6, 8, 3)
    assert model.backbone.get_layer("stage5_1").dilation_rate == 2
    assert model.segment(rng.random((1, 80, 112, 3), "float32")).shape == (1, 80, 112)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters(variant):
    model = MobileViTImageSegmenter.from_variant(variant)
    assert count(model.trainable_weights) == PARAMETERS[variant]
    assert (model.variant, model.num_classes) == (variant, 21)


def test_both_dropouts():
    head = MobileViTImageSegmenter.from_variant("mobilevit_xxs").head
    rates = [
        (type(layer).__name__, layer.rate)
        for layer in head._flatten_layers()
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert sorted(rates) == [("Dropout", 0.1), ("SpatialDropout2D", 0.1)]


@pytest.mark.parametrize("output_stride", [None, 8, 32])
def test_logits_at_the_output_stride(rng, output_stride):
    arguments = {} if output_stride is None else {"output_stride": output_stride}
    model = MobileViTImageSegmenter.from_variant("mobilevit_xxs", 5, **arguments)
    stride = output_stride or 16
    assert model(rng.random((1, 64, 96, 3), "float32")).shape == (1, 64 // stride, 96 // stride, 5)


@pytest.mark.parametrize("height, width", [(32, 32), (33, 95), (160, 224)])
def test_any_size_from_32(rng, height, width):
    logits = build_tiny_segmenter()(rng.random((2, height, width, 3), "float32"))
    assert logits.shape == (2, -(-height // 16), -(-width // 16), 3)
    assert np.isfinite(logits).all()


def test_segment_gives_the_class_of_every_pixel(rng):
    model = build_tiny_segmenter()
    images = rng.random((2, 40, 72, 3), "float32")
    # No class is the largest everywhere.
    bias = model.head.classifier.bias
    bias.assign(bias - np.mean(model(images), (0, 1, 2)))
    classes = model.segment(images)
    assert classes.dtype == np.int32
    logits = tf.image.resize(model(images), (40, 72), method="bilinear")
    np.testing.assert_array_equal(classes, np.argmax(logits, -1))
    assert len(np.unique(classes)) > 1


def test_save_and_load_give_equal_outputs(rng, tmp_path):
    model = build_tiny_segmenter(class_names=["a", "b", "ä"])
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    x = rng.random((2, 64, 48, 3), "float32")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.get_config() == model.get_config()
    assert type(loaded) is MobileViTImageSegmenter
    assert loaded.class_names == ("a", "b", "ä")


def test_the_config_holds_every_argument():
    model = build_tiny_segmenter()
    config = {
        **model.get_config(),
        "filters": 4,
        "dilation_rates": (2, 3),
        "aspp_dropout": 0.3,
        "classifier_dropout": 0.2,
        "frozen": ["head/aspp"],
    }
    changed = MobileViTImageSegmenter.from_config(config)
    assert changed.get_config() == config
    aspp = changed.head.aspp
    assert (aspp.filters, aspp.dilation_rates, aspp.dropout) == (4, (2, 3), 0.3)
    assert changed.head.drop.rate == 0.2
    assert not aspp.trainable and changed.head.classifier.trainable


def test_a_variant_takes_the_heads_arguments():
    model = MobileViTImageSegmenter.from_variant(
        "mobilevit_xxs", 2, filters=8, aspp_dropout=0.3, classifier_dropout=0.2
    )
    assert (model.head.aspp.dropout, model.head.drop.rate) == (0.3, 0.2)
    # What nobody reads: of the class, of the backbone, and of whatever stands on one.
    for arguments in ({"aspp_droput": 0.3}, {"pach_size": (2, 2, 2)}):
        with pytest.raises(TypeError, match=next(iter(arguments))):
            MobileViTImageSegmenter.from_variant("mobilevit_xxs", 2, **arguments)
        with pytest.raises(TypeError, match=next(iter(arguments))):
            MobileViTImageSegmenter(model.backbone, 2, **arguments)


def test_mixed_float16_answers_in_float32(rng):
    model, plain = build_tiny_segmenter(dtype="mixed_float16"), build_tiny_segmenter()
    plain.set_weights(model.get_weights())
    x = rng.random((2, 64, 64, 3), "float32")
    logits = model(x)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, plain(x), atol=0.02)
    with tf.GradientTape() as tape:
        loss = model.default_loss()(np.ones((2, 64, 64), "uint8"), model(x, training=True))
    for weight, gradient in zip(
        model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True
    ):
        assert gradient is not None and np.isfinite(gradient).all(), weight.path


@pytest.mark.slow
def test_fit_lowers_the_loss_on_batches_of_several_sizes(rng):
    """Bright is class 1, dark 0; a frame does not count."""
    batches = []
    for batch, height, width in ((2, 64, 64), (3, 48, 80)):
        masks = np.kron(rng.integers(0, 2, (batch, 2, 2)), np.ones((1, height // 2, width // 2)))
        images = np.repeat(masks[..., None], 3, -1) * 0.8 + 0.1
        masks[:, :4] = 255
        batches.append((images.astype("float32"), masks.astype("uint8")))
    dataset = tf.data.Dataset.from_generator(
        lambda: batches,
        output_signature=(
            tf.TensorSpec((None, None, None, 3)),
            tf.TensorSpec((None, None, None), "uint8"),
        ),
    )
    model = build_tiny_segmenter(2)
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(dataset, epochs=15, verbose=0).history
    assert set(history) == {"loss", "mean_iou", "pixel_accuracy"}
    assert history["loss"][-1] < 0.9 * history["loss"][0]


def test_other_classes_keep_all_other_weights():
    model = build_tiny_segmenter(class_names=("a", "b", "c"))
    new = model.with_classes(("x", "y"))
    assert (new.num_classes, new.class_names) == (2, ("x", "y"))
    old = {weight.path: weight.numpy() for weight in model.weights}
    for weight in new.weights:
        if weight.path.startswith("head/classifier/"):
            assert weight.shape[-1] == 2
        else:
            np.testing.assert_array_equal(weight, old[weight.path])


class TestFromBackboneOf:
    def test_the_backbone_keeps_its_weights(self, rng):
        classifier = build_tiny(dropout=0.3)
        model = MobileViTImageSegmenter.from_backbone_of(
            classifier, class_names=("a", "b"), filters=8, dtype="mixed_bfloat16"
        )
        assert (model.num_classes, model.class_names) == (2, ("a", "b"))
        config = model.backbone.config
        assert (config["output_stride"], config["dropout"]) == (16, 0.3)
        assert (config["dtype"], model.filters) == ("mixed_bfloat16", 8)
        for a, b in zip(classifier.backbone.weights, model.backbone.weights, strict=True):
            assert a.path == b.path
            np.testing.assert_array_equal(a, b)
        model.backbone.weights[0].assign(model.backbone.weights[0] + 1.0)
        assert not np.array_equal(classifier.backbone.weights[0], model.backbone.weights[0])

    def test_and_back(self, rng):
        segmenter = build_tiny_segmenter()
        classifier = MobileViTImageClassifier.from_backbone_of(segmenter, 7)
        same = build_tiny()
        for weight, other in zip(same.backbone.weights, segmenter.backbone.weights, strict=True):
            weight.assign(other)
        assert classifier.backbone.config["output_stride"] == 32
        x = rng.random((1, 64, 64, 3), "float32")
        np.testing.assert_array_equal(classifier.backbone(x), same.backbone(x))

    def test_other_widths_do_not_fit(self):
        with pytest.raises(ValueError, match="must have the old one's weights. .*num_layers"):
            MobileViTImageSegmenter.from_backbone_of(build_tiny(), 2, num_layers=(1, 1, 1))

    def test_presets_of_another_task_say_what_to_call(self, tmp_path):
        build_tiny().save(tmp_path / "model.keras")
        with pytest.raises(ValueError, match="`from_backbone_of` takes .* MobileViTImageClassifi"):
            MobileViTImageSegmenter.from_preset(tmp_path / "model.keras")


class TestFold:
    @pytest.mark.parametrize("backbone", [{}, {"output_stride": 8}, {"dtype": "mixed_float16"}])
    def test_fold_keeps_the_function(self, rng, backbone):
        model = build_tiny_segmenter(**backbone)
        folded = fold(model)
        assert (folded.form, folded.backbone.config["dtype"]) == ("deployment", "float32")
        assert {weight.name for weight in folded.weights} == {"kernel", "bias"}
        x = rng.random((2, 48, 80, 3), "float32")
        tolerance = 1e-4 if "dtype" not in backbone else 0.05
        np.testing.assert_allclose(folded(x), model(x), atol=tolerance)

    def test_operations_that_every_runtime_has(self):
        model = fold(build_tiny_segmenter(), image_shape=(64, 96, 3))
        run = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec((1, 64, 96, 3))])
        operations = run.get_concrete_function().graph.get_operations()
        assert max(t.shape.rank or 0 for op in operations for t in op.outputs) == 4
        assert "SpaceToDepth" not in {op.type for op in operations}
