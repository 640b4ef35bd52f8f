"""The training pipeline: from a source's records to batches of pixels."""

import contextlib

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.augmentation import AdvancedAugmentation, AdvancedPolicy
from mobilevit_keras.data.scales import Schedule
from mobilevit_keras.data.skipped import SkippedImages, clear_errors
from mobilevit_keras.data.sources import Source
from mobilevit_keras.data.threads import num_cores, untuned
from mobilevit_keras.data.transforms import (
    ATTEMPTS,
    centre_window,
    crop_fractions,
    decode_crop_resize,
    random_window,
)

AUGMENTATIONS = ("none", "basic", "advanced")

# Steps that are decoded at the same time: while the last images of one are waited for, the next
# one's are on their way. With the prefetched step this bounds the memory to about four steps.
_STEPS_IN_FLIGHT = 2
_READ_BLOCK = 32


class TrainingPipeline:
    """Batches whose size and image size follow a schedule.

    An epoch is a pure function of (seed, epoch): the order of the images, the size of each step,
    each image's crop and flip. Started at any step it equals the rest of the whole one.
    Records are shuffled encoded; all images of a step are decoded straight to that step's size.

    An image that cannot be read is skipped: another image of the same step takes its place, so that
    the step keeps its shape, and `corrupt` counts and names it.

    Args:
        source: Where the images come from.
        schedule: Sizes and batch sizes of the steps.
        augmentation: `"basic"`, RandomResizedCrop and horizontal flip; `"advanced"`, these and
            RandAugment, random erasing, MixUp and CutMix; `"none"`, the largest centred crop.
        seed: Seed of order and augmentation.
        strict: Whether an unreadable image stops the epoch.
        crop_area: Smallest and largest part of an image's area that a random crop covers.
        horizontal_flip: Whether half of the images are mirrored (wrong for digits and text).
        policy: How strong the advanced augmentation is.

    Attributes:
        epoch_index: The epoch that the next iterator of `dataset()` plays.
        start_step: The step at which it starts.
        corrupt: The `SkippedImages` of all epochs so far.

    Raises:
        ValueError: If an argument has no such value.
    """

    def __init__(
        self,
        source: Source,
        schedule: Schedule,
        *,
        augmentation: str = "basic",
        seed: int = 0,
        strict: bool = False,
        crop_area: tuple[float, float] = (0.08, 1.0),
        horizontal_flip: bool = True,
        policy: AdvancedPolicy | None = None,
    ):
        if augmentation not in AUGMENTATIONS:
            raise ValueError(
                f"`augmentation` must be one of {AUGMENTATIONS}. Received: {augmentation!r}."
            )
        if not 0.0 < crop_area[0] <= crop_area[1] <= 1.0:
            raise ValueError(
                f"`crop_area` must be two rising fractions in (0, 1]. Received: {crop_area}."
            )
        if policy is not None and augmentation != "advanced":
            raise ValueError(
                "`policy` needs `augmentation='advanced'`. "
                f"Received: augmentation={augmentation!r}, policy={policy}."
            )
        if seed < 0:
            raise ValueError(f"`seed` must not be negative. Received: {seed}.")
        self.source = source
        self.schedule = schedule
        self.augmentation = augmentation
        self.seed = seed
        self.crop_area = tuple(crop_area)
        self.horizontal_flip = horizontal_flip
        self.policy = policy or AdvancedPolicy()
        self.corrupt = SkippedImages(strict=strict)
        self.epoch_index = 0
        self.start_step = 0
        # Fails here, and not inside of an iterator, where an epoch has no full batch.
        self.num_steps(0)

    def num_steps(self, epoch: int) -> int:
        """Returns the exact number of steps of an epoch."""
        return self.schedule.num_steps(epoch, self.source.num_examples("train"))

    def epoch(
        self, epoch: int, start_step: int = 0, *, num_shards: int = 1, shard_index: int = 0
    ) -> tf.data.Dataset:
        """Returns the batches of one epoch.

        Args:
            epoch: Number of the epoch, from 0.
            start_step: The first step to play.
            num_shards: Workers that share each batch.
            shard_index: Which contiguous part of each batch is this worker's.

        Returns:
            A dataset of (images, labels): float32 `(B, H, W, 3)` in [0, 1] and int64 `(B,)`; with
            advanced augmentation the labels are float32 `(B, num_classes)`, mixed within this
            worker's part of the batch.

        Raises:
            ValueError: If the step is not in the epoch, or batches cannot be shared.
        """
        if not 0 <= start_step <= self.num_steps(epoch):
            raise ValueError(
                f"`start_step` must be a step of the epoch's {self.num_steps(epoch)}. "
                f"Received: {start_step}."
            )
        position = tf.constant([epoch, start_step], tf.int64)
        return self._play(tf.data.Dataset.from_tensors(position), num_shards, shard_index)

    def dataset(self, *, num_shards: int = 1, shard_index: int = 0) -> tf.data.Dataset:
        """Returns one dataset that plays another epoch each time it is iterated.

        Which one is read from `epoch_index` and `start_step` when an iterator is made, so that
        Keras `fit` gets every epoch's own schedule from one object, traced once.
        """
        position = tf.data.Dataset.from_tensors(0).map(
            lambda _: tf.numpy_function(self._position, [], tf.int64)
        )
        return self._play(position, num_shards, shard_index)

    def clear_errors(self) -> contextlib.AbstractContextManager[None]:
        """Returns `skipped.clear_errors` for this pipeline: iterate (or `fit`) inside of it."""
        return clear_errors(self.source, self.corrupt)

    def _position(self) -> np.ndarray:
        return np.array([self.epoch_index, self.start_step], np.int64)

    def _play(
        self, positions: tf.data.Dataset, num_shards: int, shard_index: int
    ) -> tf.data.Dataset:
        if not 0 <= shard_index < num_shards:
            raise ValueError(
                "`shard_index` must be one of `num_shards`. "
                f"Received: shard_index={shard_index}, num_shards={num_shards}."
            )
        if self.schedule.num_shards % num_shards:
            raise ValueError(
                "`num_shards` must divide the schedule's `num_shards`, so that every batch can be "
                f"shared evenly. Received: {num_shards}, schedule {self.schedule.num_shards}."
            )
        advanced = None
        if self.augmentation == "advanced":
            advanced = AdvancedAugmentation(
                self.policy,
                len(self.source.class_names),
                [(count // num_shards, size, size) for size, count in self.schedule.scales],
            )
        batches = positions.flat_map(
            lambda position: self._epoch(position, num_shards, shard_index, advanced)
        )
        options = untuned()
        options.deterministic = True
        # Each worker takes its own part of every batch already.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return batches.prefetch(1).with_options(options)

    def _epoch(
        self,
        position: tf.Tensor,
        num_shards: int,
        shard_index: int,
        advanced: AdvancedAugmentation | None,
    ) -> tf.data.Dataset:
        """Builds an epoch from tensors, so that its graph is traced once for all epochs."""
        epoch, start_step = position[0], position[1]
        num_examples = self.source.num_examples("train")
        steps = tf.numpy_function(self._steps, [epoch], tf.int64)
        steps = tf.ensure_shape(steps, (None, 4))
        total = steps[-1, 2] + steps[-1, 3]
        steps = steps[start_step:]
        seed = tf.stack([tf.constant(self.seed, tf.int64), epoch])
        first = tf.cond(tf.shape(steps)[0] > 0, lambda: steps[0, 3], lambda: total)
        records = self.source.records("train", seed, first)
        # The last batch is filled from the start of the same order, which is played again for it.
        again = self.source.records("train", seed, tf.constant(0, tf.int64)).repeat()
        records = records.concatenate(again.take(tf.maximum(total - num_examples, 0)))
        # Blocks only spare the per-record cost of regrouping. No step may be left to play, and
        # `rebatch` crashes on an empty list of sizes.
        groups = records.batch(_READ_BLOCK).rebatch(tf.concat([steps[:, 2], [1]], 0))
        numbers = tf.range(start_step, start_step + tf.shape(steps, tf.int64)[0])
        plan = tf.data.Dataset.from_tensor_slices((numbers, steps))
        return (
            tf.data.Dataset.zip(plan, groups)
            .map(
                lambda step, group: self._prepare(
                    seed, step[0], step[1], group, num_shards, shard_index
                )
            )
            .interleave(
                lambda step, images: self._decode_step(step, images, advanced),
                cycle_length=_STEPS_IN_FLIGHT,
                num_parallel_calls=_STEPS_IN_FLIGHT,
                deterministic=True,
            )
            .map(lambda *batch: self._finish(*batch, advanced))
        )

    def _steps(self, epoch: np.ndarray) -> np.ndarray:
        steps = self.schedule.epoch(int(epoch), self.source.num_examples("train"))
        return np.stack([steps.heights, steps.widths, steps.batch_sizes, steps.starts], 1)

    def _prepare(self, seed, number, step, group, num_shards: int, shard_index: int):
        """Draws a step's random numbers and cuts out this worker's part."""
        batch_size = step[2]
        seed = tf.random.experimental.stateless_fold_in(seed, number)
        # One row for each image of the whole batch: what happens to an image does not depend on
        # how many workers share the batch.
        random = tf.random.stateless_uniform((batch_size, 2 * ATTEMPTS + 3), seed, alg="philox")
        part = batch_size // num_shards
        rows = slice(shard_index * part, (shard_index + 1) * part)
        group = {key: value[rows] for key, value in group.items()}
        random = random[rows]
        tries = tf.reshape(random[:, 3:], (-1, ATTEMPTS, 2))
        images = {
            **group,
            "index": tf.range(part),
            "number": tf.range(batch_size)[rows],
            "fractions": crop_fractions(tries, self.crop_area),
            "position": random[:, :2],
            "flip": (random[:, 2] < 0.5) & (self.augmentation != "none" and self.horizontal_flip),
        }
        return {"height": step[0], "width": step[1], "seed": seed}, images

    def _decode_step(self, step, images, advanced) -> tf.data.Dataset:
        """Decodes a step's images in parallel; those that cannot be read are left out."""
        height, width = step["height"], step["width"]

        def decode(image):
            def window(shape):
                if self.augmentation == "none":
                    return centre_window(shape, height, width)
                return random_window(shape, image["fractions"], image["position"])

            contents = self.source.load(image["image"])
            return image["index"], decode_crop_resize(
                contents, window, height, width, image["flip"]
            )

        def augment(index, pixels):
            seed = tf.random.experimental.stateless_fold_in(step["seed"], images["number"][index])
            return index, advanced.image(pixels, seed)

        batch_size = tf.shape(images["index"], tf.int64)[0]
        decoded = (
            tf.data.Dataset.from_tensor_slices(images)
            .map(decode, num_parallel_calls=num_cores(), deterministic=True)
            .ignore_errors()
        )
        if advanced is not None:
            decoded = decoded.map(augment, num_parallel_calls=num_cores(), deterministic=True)
        # Where none is readable there is no batch; an empty one tells the next stage so.
        nothing = tf.data.Dataset.from_tensors(
            (tf.zeros((0,), tf.int64), tf.zeros((0, height, width, 3)))
        )
        return (
            decoded.batch(batch_size)
            .concatenate(nothing)
            .take(1)
            .map(lambda index, pixels: (step, index, pixels, images["label"], images["name"]))
        )

    def _finish(self, step, index, pixels, labels, names, advanced):
        """Fills the places of a step's unreadable images, and mixes images and labels."""
        expected = tf.shape(labels)[0]
        found = tf.shape(index)[0]

        def fill():
            with tf.control_dependencies(
                [tf.numpy_function(self._skip, [names, index], tf.int64, name="skip")]
            ):
                rows = tf.range(expected) % found
            return tf.gather(pixels, rows), tf.gather(labels, tf.gather(index, rows))

        pixels, labels = tf.cond(found < expected, fill, lambda: (pixels, labels))
        pixels = tf.ensure_shape(pixels, (None, None, None, 3))
        labels = tf.ensure_shape(labels, (None,))
        if advanced is None:
            return pixels, labels
        pixels, labels = advanced.batch(pixels, labels, step["seed"])
        return (
            tf.ensure_shape(pixels, (None, None, None, 3)),
            tf.ensure_shape(labels, (None, advanced.num_classes)),
        )

    def _skip(self, names: np.ndarray, found: np.ndarray) -> np.int64:
        """Notes a step's unreadable images; called by the graph."""
        lost = np.setdiff1d(np.arange(len(names)), found)
        for index in lost:
            self.corrupt.add(names[index].decode(errors="replace"))
        if len(found) == 0:
            self.corrupt.stop(
                "A step needs an image that can be read. "
                f"Received: {len(lost)} unreadable, the first is {names[0].decode()}."
            )
        return np.int64(len(lost))
