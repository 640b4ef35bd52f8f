"""A replaced classifier keeps the other weights; frozen layers do not change."""

import keras
import numpy as np
import pytest

from mobilevit_keras.models import MobileViTImageClassifier, Preprocessing
from mobilevit_keras.models.transfer import freeze, replace_classifier

IMAGES = np.random.default_rng(0).uniform(size=(4, 32, 32, 3)).astype("float32")
STAGES = [f"stage{number}_" for number in range(1, 6)]


@pytest.fixture(scope="module")
def pretrained() -> MobileViTImageClassifier:
    model = MobileViTImageClassifier.from_variant(
        "mobilevit_xxs", num_classes=5, preprocessing=Preprocessing(40, 32, "bicubic")
    )
    # Statistics that a batch norm in training mode would move.
    for weight in model.weights:
        if weight.path.endswith("moving_mean"):
            weight.assign_add(keras.ops.full(weight.shape, 0.05))
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: weight.numpy() for weight in model.weights}


def test_replaced_classifier_keeps_all_other_weights(pretrained):
    new = replace_classifier(pretrained, ("cat", "dog"))
    assert new.class_names == ("cat", "dog")
    assert new(IMAGES).shape == (4, 2)
    assert new.preprocessing == pretrained.preprocessing
    assert new.classifier_dropout == pretrained.classifier_dropout
    old = values(pretrained)
    for path, value in values(new).items():
        if path.startswith("head/classifier/"):
            assert value.shape[-1] == 2
        else:
            np.testing.assert_array_equal(value, old[path])
    np.testing.assert_array_equal(new.backbone(IMAGES), pretrained.backbone(IMAGES))
    assert pretrained.num_classes == 5


def test_replacement_changes_what_has_no_weights(pretrained):
    new = replace_classifier(
        pretrained, ("a", "b"), 0.3, Preprocessing(64, 64), dropout=0.2, dtype="mixed_bfloat16"
    )
    assert (new.backbone.config["dropout"], new.classifier_dropout) == (0.2, 0.3)
    assert new.backbone.config["dtype"] == "mixed_bfloat16"
    assert new.preprocessing == Preprocessing(64, 64)


def test_the_same_classes_keep_the_last_layer(pretrained):
    named = replace_classifier(pretrained, ("cat", "dog"))
    again = replace_classifier(named, ("cat", "dog"), dropout=0.3)
    np.testing.assert_array_equal(again(IMAGES), named(IMAGES))
    swapped = values(replace_classifier(named, ("dog", "cat")))
    assert (swapped["head/classifier/kernel"] != values(named)["head/classifier/kernel"]).any()


def test_replacement_refuses_other_weights(pretrained):
    with pytest.raises(ValueError, match="which changes .* stage3_1/fuse"):
        replace_classifier(pretrained, ("a", "b"), use_fusion=False)


@pytest.mark.parametrize(
    "parts, frozen",
    [
        ("none", ()),
        ("stages:1", ("stem", *STAGES[:1])),
        ("stages:3", ("stem", *STAGES[:3])),
        ("backbone", ("stem", *STAGES)),
    ],
)
def test_training_leaves_frozen_layers_as_they_are(pretrained, parts, frozen):
    model = replace_classifier(pretrained, ("a", "b", "c"))
    freeze(model, parts)
    # A frozen layer and all in it, or a trained one and all in it: not one weight between.
    assert all(
        weight.trainable == (not weight.path.startswith(frozen) and "moving" not in weight.path)
        for weight in model.weights
    )
    before = values(model)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(IMAGES, np.array([0, 1, 2, 0]))
    for path, value in values(model).items():
        changed = bool((value != before[path]).any())
        # One patch attends to nothing else than itself, whatever query and key are.
        if "/query/" not in path and "/key/" not in path:
            assert changed != path.startswith(frozen), path


def test_thawing_undoes_freezing(pretrained):
    model = replace_classifier(pretrained, ("a", "b"))
    everything = len(model.trainable_weights)
    freeze(model, "backbone")
    assert len(model.trainable_weights) == 5
    freeze(model, "none")
    assert len(model.trainable_weights) == everything


@pytest.mark.parametrize("parts", ["all", "stages:0", "stages:6", "stages:", "stages:1.0"])
def test_unknown_parts(pretrained, parts):
    with pytest.raises(ValueError, match='must be "none", "backbone" or "stages:1" to "stages:5"'):
        freeze(pretrained, parts)
