import numpy as np
import pytest
import tensorflow as tf

from mobilevit_keras.data import crops
from mobilevit_keras.data.crops import (
    SampleCrop,
    ShortSideCrop,
    centre_window,
    crop_fractions,
    make_crop,
    random_window,
)
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from tests.data.images import Listed, NumberedImages, framed_source


def torchvision_crops(generator, height, width, count, area, aspect):
    """RandomResizedCrop.get_params as published, in Python floats."""
    crops = []
    for _ in range(count):
        for _ in range(10):
            target = height * width * generator.uniform(*area)
            ratio = np.exp(generator.uniform(np.log(aspect[0]), np.log(aspect[1])))
            w, h = round(np.sqrt(target * ratio)), round(np.sqrt(target / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = generator.integers(0, height - h + 1)
                left = generator.integers(0, width - w + 1)
                break
        else:
            ratio = width / height
            w = width if ratio <= aspect[1] else round(height * aspect[1])
            h = height if ratio >= aspect[0] else round(width / aspect[0])
            top, left = (height - h) // 2, (width - w) // 2
        crops.append((top, left, h, w))
    return np.array(crops)


@pytest.mark.parametrize("shape", [(375, 500), (500, 200), (8, 8)])
def test_random_windows_follow_the_published_distribution(shape):
    count = 4000
    random = tf.random.stateless_uniform((count, 10, 2), (1, 2))
    place = tf.random.stateless_uniform((count, 2), (3, 4))
    fractions = crop_fractions(random, (0.08, 1.0))
    draws = tf.data.Dataset.from_tensor_slices((fractions, place))
    windows = draws.map(lambda *draw: random_window(tf.constant(shape), *draw)).batch(count)
    windows = next(iter(windows)).numpy()
    assert windows.min() >= 0
    assert np.all(windows[:, :2] + windows[:, 2:] <= shape)
    assert np.all(windows[:, 2:] > 0)
    expected = torchvision_crops(
        np.random.default_rng(0), *shape, count, (0.08, 1.0), (3 / 4, 4 / 3)
    )
    for mine, theirs in zip(windows.T, expected.T, strict=True):
        for moment in (np.mean, np.std):
            assert moment(mine) == pytest.approx(moment(theirs), rel=0.05)


def test_windows_of_very_long_images_are_centred():
    fractions = crop_fractions(tf.random.stateless_uniform((10, 2), (1, 1)), (0.9, 1.0))
    wide = random_window(tf.constant([10, 200]), fractions, tf.constant([0.9, 0.9]))
    assert wide.numpy().tolist() == [0, 93, 10, 13]  # 13 = round(10 * 4/3); (200 - 13) // 2
    tall = random_window(tf.constant([200, 12]), fractions, tf.constant([0.9, 0.9]))
    assert tall.numpy().tolist() == [92, 0, 16, 12]  # 16 = 12 / (3/4)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((100, 200), (32, 32), [0, 50, 100, 100]),
        ((300, 200), (160, 160), [50, 0, 200, 200]),
        ((300, 200), (32, 64), [100, 0, 100, 200]),
        ((1, 1), (32, 32), [0, 0, 1, 1]),
    ],
)
def test_centre_window(shape, size, expected):
    assert centre_window(tf.constant(shape), *size).numpy().tolist() == expected


def chosen(crop, shape, size, count, record=None, seed=0):
    """Windows and frames of many draws, `(count, 4)` each."""
    random = tf.random.stateless_uniform((count, crop.num_draws + 2), (seed, 5))
    drawn = crop.draw(random[:, :2], random[:, 2:])
    size = (tf.constant(size[0], tf.int64), tf.constant(size[1], tf.int64))
    dataset = tf.data.Dataset.from_tensor_slices(drawn).map(
        lambda drawn: crop.choose(tf.constant(shape), size, drawn, record)
    )
    found = next(iter(dataset.batch(count)))
    return found["window"].numpy(), found["frame"].numpy()


def assert_frames_hold_windows(windows, frames, shape, size):
    for parts, whole in ((windows, shape), (frames, size)):
        assert parts.min() >= 0
        assert np.all(parts[:, 2:] >= 1)
        assert np.all(parts[:, :2] + parts[:, 2:] <= whole)
    # Black lies only where the window reaches beyond the image: to an edge of the frame inside of
    # the size belongs an edge of the image.
    start, end = frames[:, :2], frames[:, :2] + frames[:, 2:]
    assert np.all((start == 0) | (windows[:, :2] == 0))
    assert np.all((end == size) | (windows[:, :2] + windows[:, 2:] == shape))


@pytest.mark.parametrize("shape", [(360, 480), (500, 100), (7, 9), (1, 300)])
def test_the_short_side_becomes_what_was_drawn(shape):
    size = (64, 64)
    windows, frames = chosen(ShortSideCrop((0.5, 2.0)), shape, size, 6000)
    assert_frames_hold_windows(windows, frames, shape, size)
    short = int(np.argmin(shape))
    # Smaller than the step's size in a third of the cases, then all of it is seen, as large as was
    # drawn; else a part of it.
    smaller = frames[:, 2 + short] < 64
    assert abs(smaller.mean() - 1 / 3) < 0.05
    assert np.all(windows[smaller, 2 + short] == shape[short])
    sides = frames[smaller, 2 + short]
    assert sides.min() == 32 and abs(sides.mean() - 48) < 1.0
    seen = windows[~smaller, 2 + short] / shape[short]
    if min(shape) > 50:
        # 64 pixels of 64 to 128: the mean of 1 / s over 1..2 is ln 2.
        assert abs(seen.mean() - np.log(2)) < 0.02
        # The aspect stays, up to whole pixels.
        scales = frames[:, 2:] / windows[:, 2:]
        np.testing.assert_allclose(scales[:, 0], scales[:, 1], rtol=0.07)
    # Every place is taken: the picture in the black, and the part of the picture.
    room = 64 - sides
    place = frames[smaller, short][room > 8] / room[room > 8]
    assert abs(place.mean() - 0.5) < 0.03 and place.min() == 0 and place.max() == 1


def test_short_sides_of_one_number_are_exact():
    windows, frames = chosen(ShortSideCrop((1.0, 1.0)), (100, 150), (50, 50), 300)
    assert np.all(windows[:, [0, 2]] == [0, 100]) and np.all(windows[:, 3] == 100)
    assert windows[:, 1].min() == 0 and windows[:, 1].max() == 50
    assert np.all(frames == [0, 0, 50, 50])
    windows, frames = chosen(ShortSideCrop((0.5, 0.5)), (100, 120), (50, 50), 300)
    assert np.all(windows == [0, 0, 100, 120])
    assert np.all(frames[:, 2:] == [25, 30])
    assert set(frames[:, 0]) == set(range(26)) and set(frames[:, 1]) == set(range(21))


def overlaps(windows, box):
    """Intersections over unions of windows `(N, 4)` with a box of left, top, right, bottom."""
    top, left = windows[:, 0], windows[:, 1]
    bottom, right = top + windows[:, 2], left + windows[:, 3]
    height = np.clip(np.minimum(bottom, box[3]) - np.maximum(top, box[1]), 0, None)
    width = np.clip(np.minimum(right, box[2]) - np.maximum(left, box[0]), 0, None)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return height * width / (windows[:, 2] * windows[:, 3] + area - height * width)


BOX = {
    "boxes": tf.constant([[60.0, 40.0, 140.0, 120.0], [0.0, 0.0, 0.0, 0.0]]),
    "labels": tf.constant([0, -1], tf.int64),
}


def test_samples_hold_the_centre_of_a_box():
    shape, size = (160, 200), (64, 64)
    windows, frames = chosen(SampleCrop(), shape, size, 3000, BOX)
    assert_frames_hold_windows(windows, frames, shape, size)
    start, end = windows[:, :2], windows[:, :2] + windows[:, 2:]
    assert np.all((start <= [80, 100]) & (end >= [80, 100]))
    # No crop, of the half that is not laid into a larger picture: a seventh, and where no part
    # overlaps enough.
    whole = np.all(windows == [0, 0, 160, 200], 1) & np.all(frames == [0, 0, 64, 64], 1)
    assert 1 / 14 < whole.mean() < 0.25
    # Half are laid into one, and parts of these may miss all of the black.
    assert 0.25 < np.mean(np.any(frames[:, 2:] < 64, 1)) < 0.5


@pytest.mark.parametrize("least", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_samples_overlap_as_much_as_was_drawn(least, monkeypatch):
    monkeypatch.setattr(crops, "_SAMPLE_OVERLAPS", (least,))
    monkeypatch.setattr(crops, "_ZOOM_OUT_SHARE", 0.0)
    record = {**BOX, "boxes": tf.constant([[20.0, 10.0, 190.0, 150.0], [0.0, 0.0, 9.0, 9.0]])}
    windows, frames = chosen(SampleCrop(), (160, 200), (64, 64), 1000, record)
    partial = np.any(windows != [0, 0, 160, 200], 1)
    assert partial.mean() > 0.1
    # But for whole pixels.
    assert overlaps(windows[partial], record["boxes"][0].numpy()).min() > least - 0.02
    aspect = windows[partial, 3] / windows[partial, 2]
    assert 0.48 < aspect.min() and aspect.max() < 2.05
    assert np.all(windows[partial, 2:] >= [0.3 * 160 - 1, 0.3 * 200 - 1])
    if least == 0.1:
        assert aspect.min() < 0.7 and aspect.max() > 1.8


def test_larger_pictures_are_up_to_four_times_as_large(monkeypatch):
    monkeypatch.setattr(crops, "_SAMPLE_OVERLAPS", (1.0,))
    monkeypatch.setattr(crops, "_ZOOM_OUT_SHARE", 1.0)
    windows, frames = chosen(SampleCrop(), (160, 200), (128, 128), 2000, BOX)
    assert np.all(windows == [0, 0, 160, 200])
    sides = frames[:, 2]
    assert np.all(np.abs(sides - frames[:, 3]) <= 1)
    assert 32 <= sides.min() < 34 and 126 < sides.max() <= 128
    # The mean of 1 / r over 1..4 is ln 4 / 3.
    assert abs(sides.mean() / 128 - np.log(4) / 3) < 0.02
    room = 128 - sides
    place = (frames[:, 0] / np.maximum(room, 1))[room > 16]
    assert abs(place.mean() - 0.5) < 0.03 and place.min() < 0.05 and place.max() > 0.95
    _, frames = chosen(make_crop("sample", zoom_out=2.0), (160, 200), (128, 128), 500, BOX)
    assert 64 <= frames[:, 2].min() < 66
    _, frames = chosen(make_crop("sample", zoom_out=1.0), (160, 200), (128, 128), 50, BOX)
    assert np.all(frames == [0, 0, 128, 128])


def test_images_without_boxes_stay_whole():
    record = {"boxes": BOX["boxes"], "labels": tf.constant([-1, -1], tf.int64)}
    windows, _ = chosen(SampleCrop(), (160, 200), (64, 64), 200, record)
    assert np.all(windows == [0, 0, 160, 200])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("middle",), "`crop` must be one of .*'sample'.* Received: 'middle'"),
        (("random_resized", (0.5, 1.5)), "rising fractions"),
        (("short_side", (0.08, 1.0), (2.0, 0.5)), "`short_side` must be two rising positive"),
        (("short_side", (0.2, 1.0)), "`crop_area` goes with `crop='random_resized'`. Received"),
        (("sample", (0.08, 1.0), (0.5, 1.0)), "`short_side` goes with `crop='short_side'`"),
        (("sample", (0.08, 1.0), (0.5, 2.0), 0.5), "`zoom_out` must be at least 1. Received: 0.5"),
        (("short_side", (0.08, 1.0), (0.5, 2.0), 2.0), "`zoom_out` goes with `crop='sample'`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_crop(*arguments)


def test_crops_around_boxes_need_boxes():
    with pytest.raises(ValueError, match="needs boxes, labels. Received: numbered with label"):
        MultiScaleDataset(NumberedImages(40), crop="sample")


@pytest.mark.parametrize("crop", ["short_side", "sample"])
def test_steps_alone_equal_those_of_the_whole_epoch(crop):
    source = framed_source(12)

    def play(start, **shard):
        dataset = MultiScaleDataset(
            source, sizes=(32, 64), base_size=32, batch_size=4, crop=crop, num_replicas=2
        )
        return list(dataset.epoch(1, start, **shard).as_numpy_iterator())

    whole = play(0)
    for batch, again in zip(whole[2:], play(2), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, batch, again)
    halves = [play(0, num_shards=2, shard_index=index) for index in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        tf.nest.map_structure(
            lambda all_of_it, *parts: np.testing.assert_array_equal(
                all_of_it, np.concatenate(parts)
            ),
            batch,
            *parts,
        )


class Relative(Listed):
    """Boxes in parts of their image's sides, which `load_boxes` makes pixels of."""

    def load_boxes(self, record, shape):
        return record["boxes"] * tf.cast(tf.tile(tf.reverse(shape, [0]), [2]), tf.float32)


def test_samples_are_taken_around_boxes_in_pixels():
    pixels = framed_source(12)
    records = [
        {name: value.numpy() for name, value in record.items()}
        for record in pixels.records("train", None, 0)
    ]
    for number, record in enumerate(records):
        height, width = 90 + 10 * (number % 4), 140 - 15 * (number % 3)
        record["boxes"] = record["boxes"] / np.float32([width, height, width, height])
    relative = Relative(records, pixels.fields, pixels.class_names)
    played = [
        MultiScaleDataset(source, sizes=(32,), base_size=32, batch_size=6, crop="sample")
        for source in (pixels, relative)
    ]
    for (images, targets), (same, moved) in zip(*played, strict=True):
        np.testing.assert_allclose(images, same, atol=1e-6)
        np.testing.assert_allclose(targets["boxes"], moved["boxes"], atol=1e-3)
        np.testing.assert_array_equal(targets["labels"], moved["labels"])
