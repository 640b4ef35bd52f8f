"""The batches are those of version 0.1.0, to the bit: digests that its code made."""

import hashlib

import pytest

from mobilevit_keras.data import EvaluationDataset, MultiScaleDataset, open_source
from tests.data.stand_in import write_stand_in

TRAINING = {
    ("basic", 0, 0): "f4fc8c16cf98993a35f2b3739e8f4c45",
    ("basic", 0, 3): "fdb801ed0bef1e46f582c7e97b43656d",
    ("basic", 1, 0): "bfb555d7243c83ed91ffc1573fd5f4a2",
    ("none", 1, 3): "15d269a79854e9390b34851dddf8aa5b",
    ("advanced", 1, 2): "d3426172240e5c80f0859a632341c01f",
}
EVALUATION = {
    "bilinear": "f3641a426e85b4116ae93d75aad470d8",
    "bicubic": "9c2b757d8d89dee7b4fbac6c881ea842",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("stand_in")
    write_stand_in(root)
    return open_source(f"folder:{root}")


def digest(batches) -> str:
    found = hashlib.sha256()
    for images, labels in batches:
        found.update(str((images.shape, labels.shape)).encode())
        found.update(images.numpy().tobytes())
        found.update(labels.numpy().tobytes())
    return found.hexdigest()[:32]


@pytest.mark.parametrize(("augmentation", "seed", "epoch"), TRAINING)
def test_training_batches(source, augmentation, seed, epoch):
    dataset = MultiScaleDataset(source, batch_size=8, seed=seed, augmentation=augmentation)
    if augmentation == "advanced":
        # Its graph has a branch for each size, which takes long to trace.
        dataset = MultiScaleDataset(
            source, sizes=(160, 192), batch_size=8, seed=seed, augmentation=augmentation
        )
    assert digest(dataset.epoch(epoch)) == TRAINING[augmentation, seed, epoch]


@pytest.mark.parametrize("interpolation", EVALUATION)
def test_evaluation_batches(source, interpolation):
    dataset = EvaluationDataset(
        source, short_side=150, crop_size=128, interpolation=interpolation, batch_size=4
    )
    assert digest(dataset) == EVALUATION[interpolation]
