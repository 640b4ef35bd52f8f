"""One pass over a split, each image resized and cropped the same way."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from mobilevit_keras.data.adapter import EpochAdapter
from mobilevit_keras.data.decoding import decode_image
from mobilevit_keras.data.geometry import (
    CROP_SIZE,
    CropSize,
    check_evaluation_size,
    crop_sides,
    default_short_side,
    evaluation_geometry,
    evaluation_image,
)
from mobilevit_keras.data.skipped import SkippedImages, clear_errors, none_readable, strings_of
from mobilevit_keras.data.source import Source
from mobilevit_keras.data.targets import (
    as_y,
    decode_targets,
    move_targets,
    padding,
    whole_fields,
)
from mobilevit_keras.data.threads import num_cores, untuned


class Preprocessing(Protocol):
    """What says how evaluation makes a network's input of an image."""

    short_side: int
    crop_size: CropSize
    interpolation: str
    resize: str


class EvaluationDataset(EpochAdapter):
    """A split's images in stored order; `evaluate`, and `fit` for validation, take it as it is.

    Images that, or whose targets, cannot be read are left out; `skipped` counts and names them.

    Args:
        source: Where the images come from.
        split: `"train"` or `"validation"`.
        crop_size: Side of the square that the network sees, in pixels, or its height and width.
        short_side: Pixels of the shorter side after the resize, see `geometry.evaluation_size`; 9/8
            of the crop's by default.
        interpolation: `"bilinear"` or `"bicubic"`.
        resize: `"crop"`, the centre of the resized image; or `"stretch"`, all of it whatever its
            aspect, in which `short_side` has no part.
        batch_size: Images of a batch; the last one may be shorter.
        strict: Whether the first unreadable image stops the pass; `clear_errors()` around it makes
            that a ValueError.
        one_hot: Whether labels come as float32 `(B, K)` and not as int64 `(B,)`.
        whole_targets: Whether targets stay as they lie in the upright image, and are not taken
            along with the pixels. Then y is always a dict, and has `shape`, int32 `(B, 2)`, the
            images' heights and widths; masks are filled up with 255 to the largest of the batch.
        prepare: Graph code from (images, y) to (images, y), the last stage; may be set until the
            first batch is asked for.
        skipped: Where unreadable images are counted, if not in a new `SkippedImages`.

    Attributes:
        skipped: The `SkippedImages` of all passes so far.

    Raises:
        ValueError: If an argument has no such value.
    """

    def __init__(
        self,
        source: Source,
        split: str = "validation",
        *,
        crop_size: CropSize = CROP_SIZE,
        short_side: int | None = None,
        interpolation: str = "bilinear",
        resize: str = "crop",
        batch_size: int = 64,
        strict: bool = False,
        one_hot: bool = False,
        whole_targets: bool = False,
        prepare: Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]] | None = None,
        skipped: SkippedImages | None = None,
    ):
        short_side = default_short_side(crop_size) if short_side is None else short_side
        check_evaluation_size(short_side, crop_size, interpolation, resize)
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be positive. Received: {batch_size}.")
        if strict and skipped is not None:
            raise ValueError("`strict` goes with a `skipped` of its own. Received: both.")
        self.source = source
        self.split = split
        self.short_side = short_side
        self.crop_size = crop_size
        self.interpolation = interpolation
        self.resize = resize
        self.images_per_batch = batch_size
        self.one_hot = one_hot
        self.whole_targets = whole_targets
        self.prepare = prepare
        self.skipped = SkippedImages(strict=strict) if skipped is None else skipped
        super().__init__(self.dataset, -(-source.num_examples(split) // batch_size))

    def __iter__(self) -> Iterator[tuple[tf.Tensor, Any]]:
        return iter(self._dataset)

    def dataset(self, *, num_shards: int = 1, shard_index: int = 0) -> tf.data.Dataset:
        """Returns the pass as a `tf.data.Dataset`.

        Args:
            num_shards: Workers that share the images.
            shard_index: Which worker this is; it loads and decodes its own images alone.

        Returns:
            A dataset of (images, y): float32 `(B, h, w, 3)` of the crop's size in [0, 1], and the
            source's only target or a dict of several; always a dict with `whole_targets`.
        """
        records = self.source.records(self.split, None, tf.constant(0, tf.int64))
        if num_shards > 1:
            records = records.shard(num_shards, shard_index)
        images = prepared_images(self.source, records, self, self.skipped, self.whole_targets)
        batches = self._batched(images)
        if self.one_hot and "label" in self.source.fields:
            batches = batches.map(self._one_hot)
        if not self.whole_targets:
            batches = batches.map(lambda pixels, targets: (pixels, as_y(targets)))
        if self.prepare is not None:
            batches = batches.map(self.prepare)
        options = untuned()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return batches.prefetch(1).with_options(options)

    def distributed(self, strategy: tf.distribute.Strategy) -> EpochAdapter:
        """Returns what to hand to `fit` or `evaluate` under a strategy.

        Each worker reads its share of the images; its batches go to its replicas in turn.
        """
        dataset = strategy.distribute_datasets_from_function(
            lambda context: self.dataset(
                num_shards=context.num_input_pipelines, shard_index=context.input_pipeline_id
            )
        )
        return EpochAdapter(dataset, self._most_batches)

    def clear_errors(self) -> contextlib.AbstractContextManager[None]:
        """Returns `skipped.clear_errors` for this dataset: iterate (or `evaluate`) inside of it."""
        return clear_errors(self.source, self.skipped)

    def _batched(self, images: tf.data.Dataset) -> tf.data.Dataset:
        if not self.whole_targets:
            return images.batch(self.images_per_batch)
        fills = padding(self.source.fields)
        values = {
            name: tf.constant(fills[name], spec.dtype) if name in fills else None
            for name, spec in images.element_spec[1].items()
        }
        return images.padded_batch(self.images_per_batch, padding_values=(None, values))

    def _one_hot(self, images, targets):
        label = tf.one_hot(targets["label"], len(self.source.class_names))
        return images, {**targets, "label": label}


def prepared_images(
    source: Source,
    records: tf.data.Dataset,
    wanted: Preprocessing,
    skipped: SkippedImages,
    whole_targets: bool = False,
    with_targets: bool = True,
) -> tf.data.Dataset:
    """Decodes records in their order; those that cannot be read are noted and left out.

    Args:
        source: Where the records are from.
        records: What `Source.records` returns.
        wanted: How an image becomes a network's input.
        skipped: Counts and names the images that could not be read.
        whole_targets: See `EvaluationDataset`.
        with_targets: Whether those that lie in the image are decoded, and an image whose targets do
            not fit it is left out.

    Returns:
        A dataset of (image, targets): float32 `(h, w, 3)` in [0, 1] and a dict.
    """
    how = (wanted.short_side, wanted.crop_size)
    crop = crop_sides(wanted.crop_size)
    keys = strings_of(records.element_spec)

    def note(*values):
        skipped.add(dict(zip(keys, values, strict=True)), source)
        return False

    def decode(record):
        image = decode_image(source.load(record["image"]))
        shape = tf.shape(image)[:2]
        pixels = evaluation_image(image, *how, wanted.interpolation, wanted.resize)
        targets = decode_targets(source, record, shape) if with_targets else {}
        if whole_targets:
            targets["shape"] = shape
        elif targets:
            targets = move_targets(targets, evaluation_geometry(shape, *how, wanted.resize))
        whole = {name: record[name] for name in whole_fields(source.fields)}
        return True, pixels, {**whole, **targets}

    def attempt(record):
        """One image, or a note of its name and nothing."""
        decoded = tf.data.Dataset.from_tensors(record).map(decode).ignore_errors()
        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros([side or 0 for side in spec.shape], spec.dtype),
            decoded.element_spec,
        )
        return (
            decoded.concatenate(tf.data.Dataset.from_tensors(nothing))
            .take(1)
            .map(lambda found, *image: (found, *image, strings_of(record)))
        )

    def readable(found, pixels, targets, strings):
        values = list(strings.values())
        return tf.cond(found, lambda: True, lambda: tf.numpy_function(note, values, tf.bool))

    images = records.interleave(
        attempt, cycle_length=16, num_parallel_calls=min(16, num_cores()), deterministic=True
    )
    return images.filter(readable).map(
        lambda found, pixels, targets, strings: (tf.ensure_shape(pixels, (*crop, 3)), targets)
    )


def take_images(
    source: Source, split: str, preprocessing: Preprocessing, count: int
) -> tuple[np.ndarray, SkippedImages]:
    """Reads some of a split's images, of all its classes, prepared for a network.

    Args:
        source: Where the images come from.
        split: `"train"` or `"validation"`.
        preprocessing: How an image becomes the network's input.
        count: How many images to take, whatever their targets are; fewer where the split holds
            fewer readable ones.

    Returns:
        float32 `(N, h, w, 3)`, values in [0, 1]; and the images that could not be read.

    Raises:
        ValueError: If no image can be read, or the stored records are damaged.
    """
    skipped = SkippedImages()
    # Shuffled, because many sources are stored class after class.
    records = source.records(split, tf.constant([0, 0], tf.int64), tf.constant(0, tf.int64))
    images = prepared_images(source, records, preprocessing, skipped, with_targets=False).take(
        count
    )
    with clear_errors(source, skipped):
        taken = [image for image, _ in images.with_options(untuned()).as_numpy_iterator()]
    if not taken:
        raise none_readable(source, split, skipped)
    return np.stack(taken), skipped
