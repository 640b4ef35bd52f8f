"""The training batches, whose image size changes from step to step, as one dataset for `fit`."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.adapter import EpochAdapter, cut_batches
from mobilevit_keras.data.augmentation import (
    AdvancedAugmentation,
    AdvancedPolicy,
    PhotometricAugmentation,
)
from mobilevit_keras.data.crops import CentreCrop, make_crop
from mobilevit_keras.data.decoding import decode_window
from mobilevit_keras.data.geometry import Geometry, check_interpolation
from mobilevit_keras.data.scales import Schedule, Steps
from mobilevit_keras.data.skipped import SkippedImages, clear_errors, described, strings_of
from mobilevit_keras.data.source import Source
from mobilevit_keras.data.targets import as_y, decode_targets, move_targets, whole_fields
from mobilevit_keras.data.threads import num_cores, untuned
from mobilevit_keras.paper import BASE_SIZE, CROP_AREA, SHORT_SIDE, SIZES, ZOOM_OUT

AUGMENTATIONS = ("none", "basic", "photometric", "advanced")
_Augmenter = AdvancedAugmentation | PhotometricAugmentation

# Steps that are decoded at the same time: while the last images of one are waited for, the next
# one's are on their way. With the prefetched step this bounds the memory to about four steps.
_STEPS_IN_FLIGHT = 2
_READ_BLOCK = 32


class MultiScaleDataset(EpochAdapter):
    """Batches whose size and image size follow a schedule; `model.fit` takes it as it is.

    Every epoch of a `fit` plays the next epoch of the schedule to its own end, and a second `fit`
    goes on where the first one stopped. `for images, y in dataset` plays the next epoch by hand.

    An epoch is a pure function of (seed, epoch): the order of the images, the size of each step,
    each image's crop and flip. Started at any step it equals the rest of the whole one.
    Records are shuffled encoded; all images of a step are decoded straight to that step's size.
    Targets that lie in the image follow its pixels: masks hold 255 where nothing is, boxes whose
    centre leaves the image become padding (label -1) and the others are clipped.

    An image that cannot be read, or whose target does not fit it, is skipped: another image of the
    same step takes its place, so that the step keeps its shape, and `skipped` counts and names it.

    Args:
        source: Where the images come from.
        sizes: Square image sizes in pixels to draw from.
        base_size: The size at which a batch has `batch_size` images.
        batch_size: Images of a step at the base size, over all replicas.
        sampler: See `Schedule`.
        last_batch: `"fill"` or `"drop"`, see `Schedule`.
        augmentation: `"basic"`, a random crop and horizontal flip; `"photometric"`, these and
            changes of brightness, contrast, saturation and hue; `"advanced"`, these and
            RandAugment, random erasing, MixUp and CutMix; `"none"`, the largest centred crop.
        crop: How the random crop is taken, see `crops`: `"random_resized"`, a part of random area
            and aspect, as classifiers learn; `"short_side"`, a square of the image at a random
            scale, as segmenters do; `"sample"`, one around boxes, as detectors do.
        crop_area: Smallest and largest part of an image's area that a random resized crop covers.
        interpolation: How crops are resized, `"bilinear"` or `"bicubic"`; see `Geometry.resize`.
        short_side: Smallest and largest short side of the scaled image, in parts of the step's
            size.
        zoom_out: How many times its sides an image is laid into, at most, before a sample is taken.
        horizontal_flip: Whether half of the images are mirrored (wrong for digits and text).
        policy: How strong the advanced augmentation is.
        seed: Seed of sizes, order and augmentation.
        strict: Whether an unreadable image stops the epoch.
        one_hot: Whether labels come as float32 `(B, K)` and not as int64 `(B,)`; those that are
            mixed always do.
        num_replicas: Replicas that share each batch; batch sizes are multiples of it.
        prepare: Graph code from (images, y) to (images, y), the last stage; may be set until the
            first batch is asked for.

    Attributes:
        next_epoch: The epoch that the next iterator plays.
        next_step: The step at which it starts.
        schedule: The `Schedule` of sizes and batch sizes.
        source: The source.
        skipped: The `SkippedImages` of all epochs so far.

    Raises:
        ValueError: If an argument has no such value.
    """

    def __init__(
        self,
        source: Source,
        *,
        sizes: tuple[int, ...] = SIZES,
        base_size: int = BASE_SIZE,
        batch_size: int = 128,
        sampler: str = "multi_scale_variable_batch",
        last_batch: str = "fill",
        augmentation: str = "basic",
        crop: str = "random_resized",
        crop_area: tuple[float, float] = CROP_AREA,
        short_side: tuple[float, float] = SHORT_SIDE,
        zoom_out: float = ZOOM_OUT,
        interpolation: str = "bilinear",
        horizontal_flip: bool = True,
        policy: AdvancedPolicy | None = None,
        seed: int = 0,
        strict: bool = False,
        one_hot: bool = False,
        num_replicas: int = 1,
        prepare: Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]] | None = None,
    ):
        _check(source, augmentation, policy)
        check_interpolation(interpolation)
        self.crop = make_crop(crop, crop_area, short_side, zoom_out)
        missing = [name for name in self.crop.needs if name not in source.fields]
        if missing:
            raise ValueError(
                f"`crop={crop!r}` needs {', '.join(missing)}. "
                f"Received: {source} with {', '.join(source.fields)}."
            )
        if augmentation == "none":
            self.crop = CentreCrop()
        self.source = source
        self.schedule = Schedule(
            sampler=sampler,
            sizes=sizes,
            base_size=base_size,
            batch_size=batch_size,
            seed=seed,
            last_batch=last_batch,
            num_shards=num_replicas,
        )
        self.augmentation = augmentation
        self.seed = seed
        self.interpolation = interpolation
        self.horizontal_flip = horizontal_flip
        self.policy = policy or AdvancedPolicy()
        self.one_hot = one_hot
        self.prepare = prepare
        self.skipped = SkippedImages(strict=strict)
        self.next_epoch = 0
        self.next_step = 0
        self._playing = (0, 0)
        # Fails here, and not inside of an iterator, where an epoch has no full batch.
        self.num_steps(0)
        smallest = min(count for _, count in self.schedule.scales)
        most = -(-source.num_examples("train") // smallest)
        super().__init__(lambda: self._whenever(lambda: self._playing), most, self._take)

    def steps(self, epoch: int) -> Steps:
        """Returns the steps of an epoch: sizes and numbers of images."""
        return self.schedule.epoch(epoch, self.source.num_examples("train"))

    def num_steps(self, epoch: int) -> int:
        """Returns the exact number of steps of an epoch."""
        return len(self.steps(epoch))

    def total_steps(self, epochs: int) -> int:
        """Returns the exact number of steps of the first `epochs` epochs."""
        return self.schedule.total_steps(epochs, self.source.num_examples("train"))

    def __iter__(self) -> Iterator[tuple[tf.Tensor, Any]]:
        """Plays the next epoch."""
        self._take(True)
        yield from self._dataset

    def epoch(
        self, epoch: int, start_step: int = 0, *, num_shards: int = 1, shard_index: int = 0
    ) -> tf.data.Dataset:
        """Returns the batches of one epoch.

        Args:
            epoch: Number of the epoch, from 0.
            start_step: The first step to play.
            num_shards: Workers that share each batch.
            shard_index: Which contiguous part of each batch is this worker's. It loads and decodes
                that part alone; of sources that shuffle within a buffer it reads all records.

        Returns:
            A dataset of (images, y): float32 `(B, H, W, 3)` in [0, 1], and the source's only target
            or a dict of several. With advanced augmentation labels are mixed within this worker's
            part of the batch.

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

        Which one is read from `next_epoch` and `next_step` when an iterator is made, and does not
        change them: one object, traced once, for whoever counts the epochs himself.
        """
        return self._whenever(lambda: (self.next_epoch, self.next_step), num_shards, shard_index)

    def distributed(self, strategy: tf.distribute.Strategy) -> EpochAdapter:
        """Returns what to hand to `fit` under a strategy: each batch in the replicas' equal parts.

        It plays this dataset's epochs: `next_epoch` and `next_step` are the same.

        Args:
            strategy: The strategy that the model was made under.

        Raises:
            ValueError: If it has not `num_replicas` replicas.
        """
        if strategy.num_replicas_in_sync != self.schedule.num_shards:
            raise ValueError(
                "`num_replicas` must be the strategy's number of replicas, "
                f"{strategy.num_replicas_in_sync}. Received: {self.schedule.num_shards}."
            )

        def worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            shards = context.num_input_pipelines
            dataset = self._whenever(lambda: self._playing, shards, context.input_pipeline_id)
            return cut_batches(dataset, self.schedule.num_shards // shards)

        dataset = strategy.distribute_datasets_from_function(worker)
        return EpochAdapter(dataset, self._most_batches, self._take)

    def clear_errors(self) -> contextlib.AbstractContextManager[None]:
        """Returns `skipped.clear_errors` for this dataset: iterate (or `fit`) inside of it."""
        return clear_errors(self.source, self.skipped)

    def _take(self, begins: bool) -> None:
        """Says what the next iterator plays; it is another one after that where an epoch begins."""
        self._playing = (self.next_epoch, self.next_step)
        if begins:
            self.next_epoch, self.next_step = self.next_epoch + 1, 0

    def _whenever(
        self, position: Callable[[], tuple[int, int]], num_shards: int = 1, shard_index: int = 0
    ) -> tf.data.Dataset:
        """Builds a dataset that asks for its (epoch, step) when an iterator starts."""
        positions = tf.data.Dataset.from_tensors(0).map(
            lambda _: tf.numpy_function(lambda: np.array(position(), np.int64), [], tf.int64)
        )
        return self._play(positions, num_shards, shard_index)

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
                "`num_shards` must divide `num_replicas`, so that every batch can be shared "
                f"evenly. Received: {num_shards}, num_replicas={self.schedule.num_shards}."
            )
        augmenter = self._augmenter(num_shards)
        batches = positions.flat_map(
            lambda position: self._epoch(position, num_shards, shard_index, augmenter)
        )
        options = untuned()
        options.deterministic = True
        # Each worker takes its own part of every batch already.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return batches.prefetch(1).with_options(options)

    def _augmenter(self, num_shards: int) -> _Augmenter | None:
        if self.augmentation == "photometric":
            return PhotometricAugmentation()
        if self.augmentation != "advanced":
            return None
        shapes = [(count // num_shards, size, size) for size, count in self.schedule.scales]
        return AdvancedAugmentation(self.policy, len(self.source.class_names), shapes)

    def _epoch(
        self,
        position: tf.Tensor,
        num_shards: int,
        shard_index: int,
        augmenter: _Augmenter | None,
    ) -> tf.data.Dataset:
        """Builds an epoch from tensors, so that its graph is traced once for all epochs."""
        epoch, start_step = position[0], position[1]
        num_examples = self.source.num_examples("train")
        steps = tf.numpy_function(self._step_table, [epoch], tf.int64)
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
                lambda step, group: self._draw(
                    seed, step[0], step[1], group, num_shards, shard_index
                )
            )
            .interleave(
                lambda step, images: self._decode_step(step, images, augmenter),
                cycle_length=_STEPS_IN_FLIGHT,
                num_parallel_calls=_STEPS_IN_FLIGHT,
                deterministic=True,
            )
            .map(lambda *batch: self._finish(*batch, augmenter))
        )

    def _step_table(self, epoch: np.ndarray) -> np.ndarray:
        steps = self.steps(int(epoch))
        return np.stack([steps.heights, steps.widths, steps.batch_sizes, steps.starts], 1)

    def _draw(self, seed, number, step, group, num_shards: int, shard_index: int):
        """Draws a step's random numbers and cuts out this worker's part."""
        batch_size = step[2]
        seed = tf.random.experimental.stateless_fold_in(seed, number)
        # One row for each image of the whole batch: what happens to an image does not depend on
        # how many workers share the batch.
        random = tf.random.stateless_uniform(
            (batch_size, self.crop.num_draws + 3), seed, alg="philox"
        )
        part = batch_size // num_shards
        rows = slice(shard_index * part, (shard_index + 1) * part)
        random = random[rows]
        images = {
            "record": {key: value[rows] for key, value in group.items()},
            "index": tf.range(part),
            "number": tf.range(batch_size)[rows],
            "drawn": self.crop.draw(random[:, :2], random[:, 3:]),
            "flip": (random[:, 2] < 0.5) & (self.augmentation != "none" and self.horizontal_flip),
        }
        return {"height": step[0], "width": step[1], "seed": seed}, images

    def _decode_step(self, step, images, augmenter) -> tf.data.Dataset:
        """Decodes a step's images in parallel; those that cannot be read are left out."""
        size = (step["height"], step["width"])

        def decode(image):
            record = image["record"]

            def choose(shape):
                targets = decode_targets(self.source, record, shape)
                window = self.crop.choose(shape, size, image["drawn"], targets)
                return {**window, "targets": targets}

            contents = self.source.load(record["image"])
            cut_out, chosen = decode_window(contents, choose, tf.cast(tf.stack(size), tf.int32))
            targets = chosen.pop("targets")
            geometry = Geometry(size=size, flip=image["flip"], **chosen)
            pixels = geometry.resize(cut_out, self.interpolation)
            moved = move_targets(targets, geometry)
            if augmenter is None:
                return image["index"], geometry.place(pixels), moved
            return image["index"], pixels, moved, chosen

        def augment(index, pixels, moved, chosen):
            seed = tf.random.experimental.stateless_fold_in(step["seed"], images["number"][index])
            pixels = augmenter.image(pixels, seed)
            # Only now, so that what lies around an image stays black.
            geometry = Geometry(size=size, flip=images["flip"][index], **chosen)
            return index, geometry.place(pixels), moved

        decoded = (
            tf.data.Dataset.from_tensor_slices(images)
            .map(decode, num_parallel_calls=num_cores(), deterministic=True)
            .ignore_errors()
        )
        if augmenter is not None:
            decoded = decoded.map(augment, num_parallel_calls=num_cores(), deterministic=True)
        # Where none is readable there is no batch; an empty one tells the next stage so.
        nothing = tf.data.Dataset.from_tensors(
            tf.nest.map_structure(_none_of, decoded.element_spec)
        )
        return (
            decoded.batch(tf.shape(images["index"], tf.int64)[0])
            .concatenate(nothing)
            .take(1)
            .map(lambda index, pixels, moved: (step, index, pixels, moved, images["record"]))
        )

    def _finish(self, step, index, pixels, moved, records, augmenter):
        """Fills the places of a step's unreadable images, and mixes images and labels."""
        mixes = isinstance(augmenter, AdvancedAugmentation)
        targets = {field: records[field] for field in whole_fields(self.source.fields)}
        expected = tf.shape(records["name"])[0]
        found = tf.shape(index)[0]

        strings = strings_of(records)

        def skip(found, *columns):
            rows = zip(*columns, strict=True)
            return self._skip([dict(zip(strings, row, strict=True)) for row in rows], found)

        def fill():
            is_lost = tf.reduce_all(tf.range(expected, dtype=index.dtype)[:, None] != index, 1)
            lost = [tf.boolean_mask(values, is_lost) for values in strings.values()]
            with tf.control_dependencies(
                [tf.numpy_function(skip, [found, *lost], tf.int64, name="skip")]
            ):
                rows = tf.range(expected) % found
            return (
                tf.gather(pixels, rows),
                {key: tf.gather(value, rows) for key, value in moved.items()},
                {key: tf.gather(value, tf.gather(index, rows)) for key, value in targets.items()},
            )

        pixels, moved, targets = tf.cond(found < expected, fill, lambda: (pixels, moved, targets))
        pixels = tf.ensure_shape(pixels, (None, None, None, 3))
        targets = {**targets, **moved}
        if "label" in targets:
            targets["label"] = tf.ensure_shape(targets["label"], (None,))
            if self.one_hot and not mixes:
                targets["label"] = tf.one_hot(targets["label"], len(self.source.class_names))
        if mixes:
            pixels, targets["label"] = augmenter.batch(pixels, targets["label"], step["seed"])
            pixels = tf.ensure_shape(pixels, (None, None, None, 3))
            targets["label"] = tf.ensure_shape(targets["label"], (None, augmenter.num_classes))
        y = as_y(targets)
        return (pixels, y) if self.prepare is None else self.prepare(pixels, y)

    def _skip(self, lost: Sequence[Mapping[str, Any]], found: int) -> np.int64:
        """Notes a step's unreadable images; called by the graph."""
        for record in lost:
            self.skipped.add(record, self.source)
        if found == 0:
            self.skipped.stop(
                "A step needs an image that can be read. Received: "
                f"{len(lost)} unreadable, the first is {described(lost[0], self.source)}."
            )
        return np.int64(len(lost))


def _check(source: Source, augmentation: str, policy: AdvancedPolicy | None) -> None:
    if augmentation not in AUGMENTATIONS:
        raise ValueError(
            f"`augmentation` must be one of {AUGMENTATIONS}. Received: {augmentation!r}."
        )
    if augmentation == "advanced" and tuple(source.fields) != ("label",):
        raise ValueError(
            "`augmentation='advanced'` mixes labels, which must be an image's only target. "
            f"Received: {source} with {', '.join(source.fields)}."
        )
    if policy is not None and augmentation != "advanced":
        raise ValueError(
            "`policy` needs `augmentation='advanced'`. "
            f"Received: augmentation={augmentation!r}, policy={policy}."
        )


def _none_of(spec: tf.TensorSpec) -> tf.Tensor:
    """A batch of no elements of a kind."""
    return tf.zeros([0, *(side or 0 for side in spec.shape)], spec.dtype)
