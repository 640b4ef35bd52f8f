"""The recipes of the paper's ablations: each differs from the paper's in one value, and trains."""

import keras
import numpy as np
import pytest

from mobilevit_keras.data import Schedule
from mobilevit_keras.training.run import compile_for
from train import assembly
from train.config import SIZES_AND_BATCHES, ClassificationConfig
from train.recipe_files import load_recipe, recipe_names

ABLATIONS = [name for name in recipe_names() if name.startswith("ablations/")]


@pytest.mark.parametrize("name", ABLATIONS)
def test_one_value_is_another(name):
    base, ablation = load_recipe("mobilevit_imagenet"), load_recipe(name)
    assert base["variant"] == "mobilevit_s"
    base.setdefault("patch_size", [2, 2, 2])
    base.setdefault("use_fusion", True)
    assert len([key for key, value in ablation.items() if base[key] != value]) == 1


def test_the_papers_ablations_are_all_there():
    values = {}
    for name in ABLATIONS:
        for key, value in load_recipe(name).items():
            values.setdefault(key, set()).add(str(value))
    assert {"[3, 3, 3]", "[4, 4, 4]", "[8, 4, 2]"} == values["patch_size"]
    assert {"0.1", "0.01", "0.001", "0.0001"} == values["weight_decay"]
    assert {"fixed", "multi_scale", "multi_scale_variable_batch"} == values["sampler"]
    assert {"False"} == values["use_fusion"]


@pytest.mark.parametrize(
    "name", ["sampler_fixed", "patches_3_3_3", "patches_8_4_2", "no_fusion", "weight_decay_0.1"]
)
def test_a_step_of_the_smoke_form(name, rng):
    config = ClassificationConfig(**load_recipe(f"ablations/{name}", smoke=True))
    assert config.epochs == 1 and config.data == "digits"
    schedule = Schedule(**{name: getattr(config, name) for name in SIZES_AND_BATCHES})
    size, _ = schedule.scales[0]
    model = assembly.build_model(config, ("one", "two", "three"))
    compile_for(config.open_task(), model, config.recipe(), 10)
    # A traced step takes many times as long to make as to run.
    model.run_eagerly = True
    before = [weight.numpy() for weight in model.trainable_variables]
    images = rng.random((2, size, size, 3), "float32")
    loss = model.train_on_batch(images, np.eye(3, dtype="float32")[:2])[0]
    assert np.isfinite(loss)
    moved = [(a != b.numpy()).any() for a, b in zip(before, model.trainable_variables, strict=True)]
    # At 32 pixels stage 5 has one token, whose queries and keys make no difference.
    assert np.mean(moved) > 0.85
    keras.backend.clear_session()


def test_a_recipe_that_is_its_own_base(tmp_path):
    recipe = tmp_path / "loop.yaml"
    recipe.write_text(f"base: {recipe}\n")
    with pytest.raises(ValueError, match="must not be its own `base`"):
        load_recipe(str(recipe))


def test_a_base_that_does_not_exist(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("base: nothing\n")
    with pytest.raises(ValueError, match="Received: 'nothing'"):
        load_recipe(str(recipe))
