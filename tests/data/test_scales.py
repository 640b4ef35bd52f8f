import re

import numpy as np
import pytest

from mobilevit_keras.data.scales import Schedule, generate_sizes
from mobilevit_keras.paper import SIZES


def test_generated_sizes_are_the_papers():
    assert generate_sizes(160, 320, 5, multiple_of=32, base_size=256) == (160, 192, 256, 288, 320)
    assert generate_sizes(128, 320, 5, multiple_of=32) == (128, 192, 224, 288, 320)
    assert generate_sizes(32, 64, 3, multiple_of=16) == (32, 48, 64)
    assert generate_sizes(64, 64, 4, base_size=80) == (64, 80)


def test_batch_sizes_are_the_papers():
    schedule = Schedule(batch_size=128)
    assert dict(schedule.scales) == {160: 327, 192: 227, 256: 128, 288: 101, 320: 81}


def test_global_batch_of_eight_replicas_is_eight_times_the_papers():
    schedule = Schedule(batch_size=1024, num_shards=8)
    assert [batch for _, batch in schedule.scales] == [8 * b for b in (327, 227, 128, 101, 81)]


def test_mean_images_per_update_and_sizes_are_uniform():
    """The published mean is 172.8 images an update; the draws are uniform within 4 deviations."""
    schedule = Schedule(batch_size=128)
    steps = [schedule.epoch(epoch, 200_000) for epoch in range(20)]
    sizes = np.concatenate([step.heights for step in steps])
    mean = np.mean([327, 227, 128, 101, 81])
    assert mean == 172.8
    assert np.mean(np.concatenate([s.batch_sizes for s in steps])) == pytest.approx(mean, rel=0.02)
    for size in SIZES:
        deviation = np.sqrt(0.2 * 0.8 / len(sizes))
        assert abs(np.mean(sizes == size) - 0.2) < 4 * deviation


@pytest.mark.parametrize("sampler", ["multi_scale_variable_batch", "multi_scale", "fixed"])
@pytest.mark.parametrize("num_examples", [1, 80, 1000, 12_345])
def test_fill_covers_every_image(sampler, num_examples):
    schedule = Schedule(sampler, batch_size=64)
    for epoch in range(5):
        steps = schedule.epoch(epoch, num_examples)
        assert steps.batch_sizes.sum() >= num_examples > steps.starts[-1]
        np.testing.assert_array_equal(
            steps.starts, np.cumsum(steps.batch_sizes) - steps.batch_sizes
        )
        np.testing.assert_array_equal(steps.heights, steps.widths)
        allowed = dict(schedule.scales)
        assert [allowed[size] for size in steps.heights] == list(steps.batch_sizes)


def test_drop_leaves_out_less_than_a_batch():
    fill, drop = (Schedule(batch_size=64, seed=3, last_batch=last) for last in ("fill", "drop"))
    for epoch in range(10):
        filled, dropped = fill.epoch(epoch, 5000), drop.epoch(epoch, 5000)
        assert dropped.batch_sizes.sum() <= 5000
        assert len(dropped) == len(filled) - (filled.batch_sizes.sum() > 5000)
        np.testing.assert_array_equal(dropped.heights, filled.heights[: len(dropped)])


def test_drop_keeps_an_exact_last_batch():
    schedule = Schedule("fixed", batch_size=50, last_batch="drop")
    assert schedule.num_steps(0, 200) == 4
    assert schedule.num_steps(0, 249) == 4


def test_pure_function_of_seed_and_epoch():
    first, same, other = Schedule(seed=1), Schedule(seed=1), Schedule(seed=2)
    draws = {}
    for epoch in (5, 0, 3):
        steps = first.epoch(epoch, 20_000)
        np.testing.assert_array_equal(steps.heights, same.epoch(epoch, 20_000).heights)
        draws[epoch] = steps.heights.tolist()
        assert draws[epoch] != other.epoch(epoch, 20_000).heights.tolist()
    assert len({tuple(value) for value in draws.values()}) == 3


def test_draws_do_not_change_between_releases():
    """Resumed runs and workers of another release must agree: the words of PCG64 are fixed."""
    assert Schedule(batch_size=32).epoch(0, 500).heights.tolist() == FIRST_SIZES


FIRST_SIZES = [192, 256, 320, 288, 192, 320, 256, 256, 288, 192, 160, 320, 256, 320]


def test_totals():
    schedule = Schedule(batch_size=32)
    counts = [len(schedule.epoch(epoch, 1000)) for epoch in range(4)]
    assert schedule.total_steps(4, 1000) == sum(counts)
    assert [schedule.num_steps(epoch, 1000) for epoch in range(4)] == counts


def test_fixed_sampler_has_one_size():
    steps = Schedule("fixed", base_size=224, batch_size=10).epoch(0, 95)
    assert set(steps.heights) == {224}
    assert set(steps.batch_sizes) == {10}
    assert len(steps) == 10


def test_describe_lists_each_size():
    schedule = Schedule(batch_size=32)
    text = schedule.describe(2, 5000)
    rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+) ", text, re.M)
    assert [(int(size), int(batch)) for size, batch, _, _ in rows] == list(schedule.scales)
    assert sum(int(count) for _, _, count, _ in rows) == schedule.num_steps(2, 5000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "random"}, "`sampler` must be one of .*'random'"),
        ({"sizes": (160, 31)}, "32 pixels or more. Received: 31"),
        ({"base_size": 16}, "32 pixels or more. Received: 16"),
        ({"sizes": ()}, "must not be empty"),
        ({"sizes": (64, 64)}, "differ"),
        ({"batch_size": 0}, "positive multiple"),
        ({"batch_size": 12, "num_shards": 8}, "positive multiple .* batch_size=12, num_shards=8"),
        ({"last_batch": "keep"}, "`last_batch` must be one of"),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)


def test_bad_epochs():
    with pytest.raises(ValueError, match="`num_examples` must be positive. Received: 0"):
        Schedule().epoch(0, 0)
    with pytest.raises(ValueError, match="one batch. Received: 10 images, batches of 64"):
        Schedule("fixed", batch_size=64, last_batch="drop").epoch(0, 10)
    with pytest.raises(ValueError, match="minimum=320, maximum=160"):
        generate_sizes(320, 160, 5)
    with pytest.raises(ValueError, match="count=0"):
        generate_sizes(160, 320, 0)
