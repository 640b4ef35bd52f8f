"""Sizes, batch sizes and the schedule: how many images each step sees, and at what size."""

import dataclasses

import numpy as np

from mobilevit_keras.paper import BASE_SIZE, MINIMUM_SIZE, SIZES

SAMPLERS = ("multi_scale_variable_batch", "multi_scale", "fixed")
LAST_BATCH = ("fill", "drop")


def generate_sizes(
    minimum: int, maximum: int, count: int, multiple_of: int = 32, base_size: int | None = None
) -> tuple[int, ...]:
    """Generates image sizes: equally spaced, rounded to multiples, with the base size added.

    Args:
        minimum: Smallest size in pixels.
        maximum: Largest size in pixels.
        count: How many equally spaced sizes to start from; rounding may make some of them equal.
        multiple_of: Sizes are rounded (halves upwards) to multiples of this.
        base_size: A size that is always among the result; `None` adds none.

    Returns:
        The distinct sizes in ascending order.

    Raises:
        ValueError: If the range is empty, or a count or multiple is not positive.

    Example:
    >>> generate_sizes(160, 320, 5, base_size=256)
    (160, 192, 256, 288, 320)
    """
    if not 0 < minimum <= maximum:
        raise ValueError(
            "Sizes need 0 < `minimum` <= `maximum`. "
            f"Received: minimum={minimum}, maximum={maximum}."
        )
    if count < 1 or multiple_of < 1:
        raise ValueError(
            "`count` and `multiple_of` must be positive. "
            f"Received: count={count}, multiple_of={multiple_of}."
        )
    spaced = np.linspace(minimum, maximum, count)
    sizes = {int((value + multiple_of / 2) // multiple_of) * multiple_of for value in spaced}
    if base_size is not None:
        sizes.add(base_size)
    return tuple(sorted(sizes))


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """The steps of one epoch; four integer arrays of equal length.

    Attributes:
        heights: Image height of each step, in pixels.
        widths: Image width of each step, in pixels.
        batch_sizes: Images of each step, over all replicas.
        starts: Position of each step's first image in the epoch's order.
    """

    heights: np.ndarray
    widths: np.ndarray
    batch_sizes: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.heights)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Sizes and batch sizes of every step: a pure function of (seed, epoch, step).

    Every replica and worker computes the same schedule by itself. Each image is seen exactly once
    an epoch; a short last batch is filled from the epoch's start or dropped.

    Args:
        sampler: `"multi_scale_variable_batch"` draws a size for each step and keeps the number of
            pixels of a batch constant; `"multi_scale"` draws a size and keeps the batch;
            `"fixed"` has `base_size` at every step.
        sizes: Square image sizes in pixels to draw from, each with equal chance. The `"fixed"`
            sampler takes only `base_size`.
        base_size: The size at which a batch has `batch_size` images.
        batch_size: Images of a step at the base size, over all replicas.
        seed: Seed of the draws.
        last_batch: `"fill"` or `"drop"`.
        num_shards: Replicas that share each batch; batch sizes are multiples of it.

    Raises:
        ValueError: If an argument has no such value, or a size is under 32.

    Example:
    >>> schedule = Schedule(batch_size=128)
    >>> [schedule.batch_size_at(size) for size in schedule.sizes]
    [327, 227, 128, 101, 81]
    """

    sampler: str = "multi_scale_variable_batch"
    sizes: tuple[int, ...] = SIZES
    base_size: int = BASE_SIZE
    batch_size: int = 128
    seed: int = 0
    last_batch: str = "fill"
    num_shards: int = 1

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple(int(size) for size in self.sizes))
        if self.sampler not in SAMPLERS:
            raise ValueError(f"`sampler` must be one of {SAMPLERS}. Received: {self.sampler!r}.")
        if self.last_batch not in LAST_BATCH:
            raise ValueError(
                f"`last_batch` must be one of {LAST_BATCH}. Received: {self.last_batch!r}."
            )
        if not self.sizes:
            raise ValueError("`sizes` must not be empty. Received: ().")
        for size in (*self.sizes, self.base_size):
            if size < MINIMUM_SIZE:
                raise ValueError(
                    f"Image sizes must be {MINIMUM_SIZE} pixels or more. Received: {size}."
                )
        if len(set(self.sizes)) != len(self.sizes):
            raise ValueError(f"`sizes` must differ from each other. Received: {self.sizes}.")
        if self.num_shards < 1:
            raise ValueError(f"`num_shards` must be positive. Received: {self.num_shards}.")
        if self.batch_size < 1 or self.batch_size % self.num_shards:
            raise ValueError(
                "`batch_size` must be a positive multiple of `num_shards`. "
                f"Received: batch_size={self.batch_size}, num_shards={self.num_shards}."
            )
        if self.seed < 0:
            raise ValueError(f"`seed` must not be negative. Received: {self.seed}.")

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        """The (size, batch size) pairs that steps are drawn from."""
        sizes = (self.base_size,) if self.sampler == "fixed" else self.sizes
        return tuple((size, self.batch_size_at(size)) for size in sizes)

    def batch_size_at(self, size: int) -> int:
        """Returns the number of images of a step at a size, over all replicas."""
        if self.sampler != "multi_scale_variable_batch":
            return self.batch_size
        images = self.base_size**2 * (self.batch_size // self.num_shards) / size**2
        # The published sampler cuts the fraction off (327.68 images are 327) after rounding to
        # two digits, which only forgives floating-point error just below a whole number.
        return max(1, int(round(images, 2))) * self.num_shards

    def epoch(self, epoch: int, num_examples: int) -> Steps:
        """Returns the steps of an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            num_examples: Images of the training split.

        Raises:
            ValueError: If there are no images, or fewer than the one batch that
                `last_batch="drop"` needs.
        """
        if num_examples < 1:
            raise ValueError(f"`num_examples` must be positive. Received: {num_examples}.")
        sizes, batch_sizes = np.array(self.scales, np.int64).T
        longest = -(-num_examples // int(batch_sizes.min()))
        # The generator's raw words, unlike numpy's distributions, are the same in every release,
        # so that workers and resumed runs agree. Modulo's bias is under 1e-18.
        words = np.random.PCG64([self.seed, epoch]).random_raw(longest)
        drawn = (words % np.uint64(len(sizes))).astype(np.int64)
        ends = np.cumsum(batch_sizes[drawn])
        if self.last_batch == "fill":
            count = int(np.searchsorted(ends, num_examples)) + 1
        else:
            count = int(np.searchsorted(ends, num_examples, side="right"))
        if count == 0:
            raise ValueError(
                "With `last_batch='drop'` an epoch needs the images of one batch. "
                f"Received: {num_examples} images, batches of {int(batch_sizes[drawn[0]])}."
            )
        drawn = drawn[:count]
        size, batch_size = sizes[drawn], batch_sizes[drawn]
        return Steps(size, size.copy(), batch_size, np.cumsum(batch_size) - batch_size)

    def num_steps(self, epoch: int, num_examples: int) -> int:
        """Returns the exact number of steps of an epoch."""
        return len(self.epoch(epoch, num_examples))

    def total_steps(self, epochs: int, num_examples: int) -> int:
        """Returns the exact number of steps of the first `epochs` epochs."""
        return sum(self.num_steps(epoch, num_examples) for epoch in range(epochs))

    def describe(self, epoch: int, num_examples: int) -> str:
        """Returns a table of the scales, and the epoch's totals, as text."""
        steps = self.epoch(epoch, num_examples)
        lines = [
            f"{self.sampler}: epoch {epoch} of {num_examples} images in {len(steps)} steps, "
            f"seed {self.seed}, last batch: {self.last_batch}",
            f"{'size':>6} {'batch':>6} {'steps':>7} {'images':>9} {'megapixels/step':>16}",
        ]
        for size, batch_size in self.scales:
            count = int(np.sum(steps.heights == size))
            megapixels = size**2 * batch_size / 1e6
            lines.append(
                f"{size:>6} {batch_size:>6} {count:>7} {count * batch_size:>9} {megapixels:>16.2f}"
            )
        mean = steps.batch_sizes.sum() / len(steps)
        lines.append(f"mean images a step: {mean:.1f}")
        return "\n".join(lines)
