"""Two devices and two processes against one: the same losses, weights and files."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.layers.batch_norm import BatchNorm
from mobilevit_keras.models import load_model
from mobilevit_keras.training.checkpoints import list_checkpoints
from mobilevit_keras.training.distribution import (
    all_workers,
    anywhere,
    check_workers_agree,
    is_chief,
    num_replicas,
    open_strategy,
)
from tests.photos import write_coloured_photos
from tests.training import distributed_run
from train import assembly
from train.config import ClassificationConfig

# Seconds on free cores; several processes that share busy ones take minutes.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
RUN = ("-m", "tests.training.distributed_run", "--distribute")
TOLERANCE = 1e-4


def start(arguments, index: int | None = None, ports: tuple[int, ...] = ()) -> subprocess.Popen:
    """Starts a Python process; with `ports` as worker `index` of a cluster on the loopback."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CONFIG", None)
    if ports:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_workers(arguments_of) -> list[subprocess.Popen]:
    """Starts two workers; `arguments_of` gives the arguments of each."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = tuple(s.getsockname()[1] for s in sockets)
    for s in sockets:
        s.close()
    return [start(arguments_of(index), index, ports) for index in range(2)]


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, error = process.communicate(timeout=600)
    finally:
        process.kill()
    return process.returncode, out, error


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_coloured_photos(folder, {"red": 0, "blue": 2}, 8, "{}.png")
    return folder


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory) -> dict[str, Path]:
    """Folders of the same training: alone, on two devices of a process, in two processes."""
    folder = tmp_path_factory.mktemp("runs")
    data = ["--data", f"folder:{photos}", "--output"]
    processes = [start([*RUN, "mirrored", *data, folder / "mirrored"])]
    processes += start_workers(
        lambda index: [*RUN, "multi_worker", *data, folder / f"multi_worker-{index}"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "build_model", distributed_run.tiny_model)
        assert distributed_run.run(*data, folder / "none") == 0
    for status, _, error in map(finish, processes):
        assert status == 0, error[-3000:]
    return {path.name: path for path in folder.iterdir()}


def log(folder: Path) -> dict[str, list[float]]:
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("loss", "top1", "val_loss", "val_top1", "learning_rate")
    return {name: [float(row[name]) for row in rows] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mirrored", "multi_worker-0"])
def test_the_losses_and_averages_of_one_process(runs, name):
    expected, found = log(runs["none"]), log(runs[name])
    assert len(expected["loss"]) == 3
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, atol=TOLERANCE, err_msg=key)
    # The averages' own statistics too: batch norms saw the whole batch.
    a, b = (load_model(runs[each] / "model.keras") for each in ("none", name))
    for x, y in zip(a.weights, b.weights, strict=True):
        if x.name.startswith("moving"):
            # AdamW makes whole steps of gradients that are nothing but rounding.
            np.testing.assert_allclose(x, y, atol=1e-3, err_msg=x.path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mirrored", "multi_worker-0"])
def test_checkpoints_hold_the_same(runs, name):
    pairs = zip(
        list_checkpoints(runs["none"] / "checkpoints"),
        list_checkpoints(runs[name] / "checkpoints"),
        strict=True,
    )
    for first, second in pairs:
        assert first.name == second.name
        with np.load(first) as a, np.load(second) as b:
            assert a.files == b.files and str(a["position"]) == str(b["position"])
            metrics = [key for key in a.files if key.startswith("metrics/")]
            for key in metrics:
                np.testing.assert_allclose(a[key], b[key], atol=1e-3, err_msg=key)


@pytest.mark.slow
def test_only_the_first_worker_writes(runs):
    assert "multi_worker-1" not in runs


@pytest.mark.slow
def test_workers_stop_together_and_go_on_to_the_same_weights(runs, photos, tmp_path):
    """SIGTERM to the one that does not write: both exit with 0, and go on to the bit."""
    whole, cut = runs["multi_worker-0"], tmp_path / "cut"
    arguments = [*RUN, "multi_worker", "--data", f"folder:{photos}", "--output", cut]
    processes = start_workers(lambda index: arguments)
    while not list_checkpoints(cut / "checkpoints"):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGTERM)
    causes = ("another worker", "SIGTERM")
    for cause, (status, out, error) in zip(causes, map(finish, processes), strict=True):
        assert status == 75, error[-3000:]
        assert f"stopped by {cause} after step" in out
    assert (cut / "model.keras").exists()
    for status, _, error in map(finish, start_workers(lambda index: [*arguments, "--resume"])):
        assert status == 0, error[-3000:]
    assert log(cut) == log(whole)
    a, b = (load_model(folder / "model.keras") for folder in (whole, cut))
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_others_with_one_line(photos, tmp_path):
    arguments = [*RUN, "multi_worker", "--data", f"folder:{photos}", "--output", tmp_path]
    processes = start_workers(lambda index: [*arguments, "--epochs", 2000])
    while not list_checkpoints(tmp_path / "checkpoints"):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    processes[1].kill()
    status, _, error = finish(processes[0])
    assert status == 2
    last = list_checkpoints(tmp_path / "checkpoints")[-1]
    assert "error: Another worker ended or cannot be reached; " in error
    assert f"{last} is whole, go on with --resume." in error


@pytest.mark.slow
def test_workers_of_different_configurations_are_refused(photos, tmp_path):
    command = ["-m", "train", "classification", "--data", f"folder:{photos}"]
    command += ["--distribute", "multi_worker", "--batch-size", "8", "--output", tmp_path / "run"]
    workers = start_workers(lambda index: [*command, "--epochs", 5 + index])
    for status, _, error in map(finish, workers):
        assert status == 2
        assert (
            "error: All workers must have one configuration, and worker 0 has epochs=5. " in error
        )
        assert "Received: epochs=6 on worker 1." in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_worker_that_fails_stops_the_others(photos, tmp_path):
    command = ["-m", "train", "classification", "--distribute", "multi_worker"]
    command += ["--batch-size", "8", "--output", tmp_path / "run"]
    data = [f"folder:{photos}", f"folder:{tmp_path}/missing"]
    workers = start_workers(lambda index: [*command, "--data", data[index]])
    (first, _, other), (second, _, own) = map(finish, workers)
    assert first == second == 2
    assert "error: Worker 1 stopped: " in other and f"{tmp_path}/missing" in other
    assert f"{tmp_path}/missing" in own and "Worker 1" not in own


class TestWithoutDistribution:
    def test_one_process(self):
        assert open_strategy("none") is None
        assert is_chief(None) and num_replicas(None) == 1
        check_workers_agree(None, {"epochs": 3})
        assert anywhere(None)(True) and not anywhere(None)(False)

    def test_a_mistake_passes_through(self):
        with pytest.raises(ValueError, match="bad"), all_workers(None):
            raise ValueError("bad")

    def test_unknown_way(self):
        with pytest.raises(ValueError, match="Received: 'tpu'"):
            open_strategy("tpu")

    @pytest.mark.parametrize("option", [{"clip_norm": 1.0}, {"gradient_accumulation": 2}])
    def test_what_keras_does_for_each_replica_alone(self, option):
        with pytest.raises(ValueError, match="`distribute` goes with neither"):
            ClassificationConfig(distribute="mirrored", **option)

    @pytest.mark.parametrize(
        "described",
        ["", "{", "[]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}'],
    )
    def test_workers_that_are_not_described(self, described, monkeypatch):
        monkeypatch.setenv("TF_CONFIG", described)
        with pytest.raises(ValueError, match="TF_CONFIG must name them"):
            open_strategy("multi_worker")


def test_synchronized_statistics_on_one_replica_are_the_fused_kernels(rng):
    """Outputs, gradients and moving statistics, Bessel's correction included."""
    images = tf.constant(rng.normal(1.0, 2.0, (4, 5, 6, 3)), tf.float32)
    weights = tf.constant(rng.normal(size=(4, 5, 6, 3)), tf.float32)
    results = []
    for synchronized in (False, True):
        layer = BatchNorm(synchronized=synchronized)
        layer.build(images.shape)
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            value = keras.ops.sum(outputs * weights)
        gradients = tape.gradient(value, [images, *(w.value for w in layer.trainable_weights)])
        moving = [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
        results.append([outputs.numpy(), *(g.numpy() for g in gradients), *moving])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("part", ["norms", "dropout", "overflow", "masks", "boxes"])
def test_weights_after_sgd_on_two_devices(part, tmp_path):
    """Not after Adam, which does not see whether gradients are summed or averaged."""
    path = tmp_path / "weights.npz"
    process = start(["-m", "tests.training.two_replicas", part, path])
    status, _, error = finish(process)
    assert status == 0, error[-3000:]
    with np.load(path) as file:
        arrays = dict(file)
    found = {key: value for key, value in arrays.items() if key.startswith("found/")}
    assert len(found) >= 4
    # One replica's overflow leaves the weights of all as they were, and halves the loss's scale.
    other = "before" if part == "overflow" else "expected"
    for key, value in found.items():
        expected = arrays[key.replace("found", other)]
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6, err_msg=key)
    if part == "overflow":
        assert float(arrays["scale/0"]) == 2.0**9
    else:
        # The last weight but one is the dense kernel: it has moved.
        moved = arrays["found/7"] if part == "norms" else arrays["found/3"]
        assert np.abs(moved).max() > 1e-3
