"""Freshly drawn weights answer alike here and in Hugging Face transformers and timm."""

import keras
import numpy as np
import pytest

from mobilevit_keras.models import load_model
from mobilevit_keras.weights import load_checkpoint, save_checkpoint

TOLERANCE = 1e-4
LIBRARIES = ("huggingface", "timm")
VARIANTS = ("mobilevit_xxs", "mobilevit_xs", "mobilevit_s", "mobilevitv2_075", "mobilevitv2_150")
SIZES = ("256x256", "192x320", "160x224")


def sizes_of(library, variant):
    """Where the patch does not divide a map, transformers' MobileViTv2 zeroes what is left over."""
    return SIZES[:2] if library == "huggingface" and "v2" in variant else SIZES


def difference(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_keras_answers_as_the_original(checkpoints, library, variant, suffix):
    place = checkpoints / library / variant
    model = load_checkpoint(place.with_suffix(suffix))
    assert model.backbone.variant == variant
    backbone = model.backbone
    outputs = [backbone.pyramid_outputs[f"P{number}"] for number in range(1, 6)]
    pyramid = keras.Model(backbone.input, outputs)
    answers = np.load(place.with_suffix(".npz"))
    for size in sizes_of(library, variant):
        images = answers[f"images_{size}"]
        found = difference(model(images), answers[f"logits_{size}"])
        print(f"{library} {variant}{suffix} {size}: logits differ by {found:.1e}")
        assert found < TOLERANCE
        if library == "huggingface" and suffix == ".pt":
            for number, stage in enumerate(pyramid(images), start=1):
                assert difference(stage, answers[f"stage{number}_{size}"]) < TOLERANCE


def test_what_is_written_answers_alike_in_the_originals(checkpoints, originals, tmp_path):
    models = {}
    for library in LIBRARIES:
        for variant in VARIANTS:
            place = checkpoints / library / variant
            # The other library's weights, so that every tensor goes through both tables.
            other = LIBRARIES[1 - LIBRARIES.index(library)]
            model = load_checkpoint((checkpoints / other / variant).with_suffix(".pt"))
            model.save(tmp_path / "model.keras")
            save_checkpoint(
                load_model(tmp_path / "model.keras"),
                place.with_suffix(".written.safetensors"),
                library,
            )
            models[place] = model
    originals("answer", checkpoints)
    for place, model in models.items():
        answers = np.load(place.with_suffix(".written.npz"))
        for size in sizes_of(place.parent.name, place.name):
            found = difference(model(answers[f"images_{size}"]), answers[f"logits_{size}"])
            print(f"written for {place.parent.name}, {place.name}, {size}: {found:.1e}")
            assert found < TOLERANCE
