"""Changes of colour, and the advanced set: RandAugment, random erasing, MixUp, CutMix.

All are Keras's layers.

The layers keep their random state in a variable, which a parallel pipeline would advance in any
order. Here each is handed seeds that are a function of (seed, epoch, step, image) alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

_PIXELS = (0.0, 1.0)


# As strong as SSD's: brightness by 32 / 255, contrast and saturation by a half to three halves, hue
# by 18 degrees. Keras's contrast of a single number only rises, its saturation f multiplies by
# f / (1 - f), and its hue f turns by up to f / 2.
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 32 / 255, (0.5, 0.5), (1 / 3, 0.6), 0.1
_PHOTOMETRIC_CHANCE = 0.5


@dataclasses.dataclass(frozen=True)
class AdvancedPolicy:
    """How strong the advanced augmentation is; the defaults are those usual on ImageNet.

    Attributes:
        num_ops: RandAugment's operations on each image.
        magnitude: Their strength from 0 to 1; RandAugment's 9 of 30 is 0.3.
        mixup_alpha: Parameter of MixUp's beta distribution.
        cutmix_alpha: Parameter of CutMix's beta distribution.
        cutmix_probability: Chance that a step is cut and pasted and not blended.
        erase_probability: Chance that a rectangle of an image is erased.
    """

    num_ops: int = 2
    magnitude: float = 0.3
    mixup_alpha: float = 0.2
    cutmix_alpha: float = 1.0
    cutmix_probability: float = 0.5
    erase_probability: float = 0.25

    def __post_init__(self):
        if self.num_ops < 0:
            raise ValueError(f"`num_ops` must not be negative. Received: {self.num_ops}.")
        for name in ("magnitude", "cutmix_probability", "erase_probability"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"`{name}` must be between 0 and 1. Received: {value}.")
        for name in ("mixup_alpha", "cutmix_alpha"):
            value = getattr(self, name)
            # Below, the beta draws underflow to one half in float32.
            if not 0.1 <= value <= 1.0:
                raise ValueError(f"`{name}` must be between 0.1 and 1. Received: {value}.")


class _Seeds(keras.random.SeedGenerator):
    """Hands a layer seeds that are numbered from one tensor, and keeps no state in a variable."""

    def __init__(self, seed: tf.Tensor):
        self._seed = seed
        self._count = 0

    def next(self, ordered=True):
        self._count += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._count)


class PhotometricAugmentation:
    """Builds the graph of changes that leave every pixel where it is.

    Brightness, contrast, saturation and hue, in this order, each with a chance of one half.

    Reference: [SSD](https://arxiv.org/abs/1512.02325), section 2.2.
    """

    def __init__(self):
        layers = keras.layers
        built = [
            layers.RandomBrightness(_BRIGHTNESS, _PIXELS, dtype="float32"),
            layers.RandomContrast(_CONTRAST, _PIXELS, dtype="float32"),
            layers.RandomSaturation(_SATURATION, _PIXELS, dtype="float32"),
            layers.RandomHue(_HUE, _PIXELS, dtype="float32"),
        ]
        self._operations = [functools.partial(_apply, _prepared(layer)) for layer in built]

    def image(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Changes one image's colours.

        Args:
            image: float32 `(H, W, 3)`, values in [0, 1].
            seed: int64 `(2,)`.

        Returns:
            An image of the same shape and range.
        """
        count = len(self._operations)
        chosen = tf.random.stateless_uniform((count,), seed, alg="philox") < _PHOTOMETRIC_CHANCE
        images = image[None]
        for number, operation in enumerate(self._operations):
            change = functools.partial(
                operation, images, tf.random.experimental.stateless_fold_in(seed, number + 1)
            )
            images = tf.cond(chosen[number], change, lambda images=images: images)
            images = tf.ensure_shape(images, (1, None, None, 3))
        return images[0]


class AdvancedAugmentation:
    """Builds the graph of the advanced set.

    Args:
        policy: How strong it is.
        num_classes: Length of the soft labels.
        shapes: Every (batch size, height, width) that a step may have: Keras's layers for whole
            batches need to know their sizes, so each shape gets a branch of its own.
    """

    def __init__(
        self, policy: AdvancedPolicy, num_classes: int, shapes: Sequence[tuple[int, int, int]]
    ):
        self.policy = policy
        self.num_classes = num_classes
        self.shapes = tuple(shapes)
        self._operations = _rand_augment(policy.magnitude)
        probability = policy.erase_probability
        self._erase = _prepared(
            keras.layers.RandomErasing(
                factor=(probability, probability), value_range=_PIXELS, dtype="float32"
            )
        )
        self._mix_up = _prepared(keras.layers.MixUp(alpha=policy.mixup_alpha, dtype="float32"))
        alpha = policy.cutmix_alpha
        self._cut_mix = _prepared(keras.layers.CutMix(factor=(alpha, alpha), dtype="float32"))

    def image(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Applies RandAugment to one image.

        Args:
            image: float32 `(H, W, 3)`, values in [0, 1].
            seed: int64 `(2,)`.

        Returns:
            An image of the same shape and range.
        """
        # One choice more than there are layers: nothing happens.
        choices = tf.random.stateless_uniform(
            (self.policy.num_ops,),
            seed,
            maxval=len(self._operations) + 1,
            dtype=tf.int32,
            alg="philox",
        )

        def step(number, images):
            step_seed = tf.random.experimental.stateless_fold_in(seed, number + 1)
            branches = [
                lambda operation=operation: operation(images, step_seed)
                for operation in self._operations
            ]
            images = tf.switch_case(choices[number], [*branches, lambda: images])
            return number + 1, tf.clip_by_value(
                tf.ensure_shape(images, (1, None, None, 3)), *_PIXELS
            )

        _, images = tf.while_loop(
            lambda number, images: number < self.policy.num_ops,
            step,
            (0, image[None]),
            shape_invariants=(tf.TensorShape(()), tf.TensorShape((1, None, None, 3))),
        )
        return images[0]

    def batch(
        self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Erases parts of images and mixes the images of a step with each other.

        Args:
            images: float32 `(B, H, W, 3)`, values in [0, 1], of one of the known shapes.
            labels: int64 `(B,)`.
            seed: int64 `(2,)`.

        Returns:
            Images of the same shape and range, and labels float32 `(B, num_classes)` that sum to 1.
        """
        known = tf.constant(self.shapes)
        shape = tf.reduce_all(known == tf.shape(images)[:3], axis=1)
        index = tf.argmax(tf.cast(shape, tf.int32), output_type=tf.int32)
        cut = tf.random.stateless_uniform((), seed, alg="philox") < self.policy.cutmix_probability

        def at(shape):
            data = {
                "images": tf.ensure_shape(images, (*shape, 3)),
                "labels": tf.one_hot(tf.ensure_shape(labels, shape[:1]), self.num_classes),
            }
            seeds = _Seeds(seed)
            erased = self._erase.get_random_transformation(data, training=True, seed=seeds)
            data["images"] = self._erase.transform_images(data["images"], erased, training=True)

            def mix(layer):
                mixed = layer.get_random_transformation(data, training=True, seed=_Seeds(seed + 1))
                return (
                    layer.transform_images(data["images"], mixed, training=True),
                    layer.transform_labels(data["labels"], mixed, training=True),
                )

            return tf.cond(cut, lambda: mix(self._cut_mix), lambda: mix(self._mix_up))

        return tf.switch_case(index, [lambda shape=shape: at(shape) for shape in self.shapes])


def _rand_augment(magnitude: float) -> list[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """RandAugment's operations, each on (images, seed); at magnitude 1 as far as in the paper."""
    layers = keras.layers
    strength = {"value_range": _PIXELS, "dtype": "float32"}
    built = [
        layers.AutoContrast(**strength),
        layers.Equalization(**strength),
        layers.RandomRotation(magnitude * 30 / 360, dtype="float32"),
        layers.RandomPosterization(8 - round(4 * magnitude), **strength),
        layers.RandomColorDegeneration(0.9 * magnitude, **strength),
        layers.RandomContrast(0.9 * magnitude, **strength),
        layers.RandomBrightness(0.9 * magnitude, **strength),
        layers.RandomSharpness(0.9 * magnitude, **strength),
        layers.RandomShear(x_factor=0.3 * magnitude, dtype="float32"),
        layers.RandomShear(y_factor=0.3 * magnitude, dtype="float32"),
        layers.RandomTranslation(0.0, 0.45 * magnitude, dtype="float32"),
        layers.RandomTranslation(0.45 * magnitude, 0.0, dtype="float32"),
    ]
    operations = [functools.partial(_apply, _prepared(layer)) for layer in built]
    return [*operations, functools.partial(_solarize, magnitude)]


def _prepared(layer: keras.Layer) -> keras.Layer:
    # Called part by part, not as a layer, they would run on the backend that Keras is set to.
    layer.backend.set_backend("tensorflow")
    return layer


def _apply(layer: keras.Layer, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    drawn = layer.get_random_transformation(images, training=True, seed=_Seeds(seed))
    return layer.transform_images(images, drawn, training=True)


def _solarize(magnitude: float, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Inverts bright pixels. Keras 3.15's layer cannot keep its threshold from going down to 0."""
    drawn = tf.random.stateless_uniform((), seed, alg="philox")
    return tf.where(images < 1.0 - magnitude * drawn, images, 1.0 - images)
