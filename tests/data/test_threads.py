"""What tf.data gets told about threads."""

import os

import pytest

from mobilevit_keras.data import EvaluationDataset, MultiScaleDataset
from mobilevit_keras.data.threads import num_cores
from tests.data.images import NumberedImages


def test_cores_where_the_system_tells_of_all_alone(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert num_cores() == os.cpu_count()


@pytest.mark.parametrize("name", ["examples", "evaluation", "epoch", "dataset"])
def test_no_dataset_waits_for_the_tuner(name):
    source = NumberedImages(8)
    pipeline = MultiScaleDataset(source, sampler="fixed", base_size=32, batch_size=4)
    datasets = {
        "examples": lambda: source.examples("train"),
        "evaluation": EvaluationDataset(source, "train", crop_size=32).dataset,
        "epoch": lambda: pipeline.epoch(0),
        "dataset": pipeline.dataset,
    }
    assert datasets[name]().options().autotune.enabled is False
