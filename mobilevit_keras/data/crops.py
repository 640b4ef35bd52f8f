"""Which window of an image training takes, and the one table of it; a new crop is one class here.

Every crop is drawn from uniform numbers that a step hands it, and so depends on the step's seed
alone.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf

from mobilevit_keras.paper import CROP_AREA, SHORT_SIDE, ZOOM_OUT

CROP_ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10  # tries of RandomResizedCrop before it settles for a centred crop

# SSD's crops, as the detectors' authors have them: how large an image's part is, what of a box must
# lie in it (0 asks for a box's centre alone, 1 is no crop), how often one is looked for.
_SAMPLE_SIDE = (0.3, 1.0)
_SAMPLE_ASPECT = (0.5, 2.0)
_SAMPLE_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
_SAMPLE_TRIES = 40
# Half of the images first become a part of a black one.
_ZOOM_OUT_SHARE = 0.5

Drawn = Mapping[str, tf.Tensor]


class Crop(abc.ABC):
    """How training takes its window of an image.

    Attributes:
        num_draws: Uniform numbers that an image needs beside those for the place.
        needs: Fields that a source must have.
    """

    num_draws: ClassVar[int] = 0
    needs: ClassVar[tuple[str, ...]] = ()

    def draw(self, position: tf.Tensor, random: tf.Tensor) -> dict[str, tf.Tensor]:
        """Makes of a step's random numbers what `choose` takes of each image.

        Args:
            position: Uniform draws in [0, 1) for the place, top then left, `(B, 2)`.
            random: Others, `(B, num_draws)`.

        Returns:
            Tensors of B rows each.
        """
        return {"position": position, "random": random}

    @abc.abstractmethod
    def choose(
        self,
        shape: tf.Tensor,
        size: tuple[tf.Tensor, tf.Tensor],
        drawn: Drawn,
        targets: Mapping[str, tf.Tensor],
    ) -> dict[str, tf.Tensor]:
        """Chooses an image's window.

        Args:
            shape: Height and width of the upright image, int32.
            size: Height and width of the step's images.
            drawn: The image's rows of what `draw` returned.
            targets: Those of the image's targets that lie in it, as they lie in the upright one.

        Returns:
            `window`, and `frame` where the crop may reach beyond the image, both int32; see
            `Geometry`.
        """


class CentreCrop(Crop):
    """The largest centred window of the step's aspect, always the same."""

    def draw(self, position, random):
        return {}

    def choose(self, shape, size, drawn, targets):
        return {"window": centre_window(shape, *size)}


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Crop):
    """A part of the image of random area and aspect, at a random place.

    Args:
        area: Smallest and largest part of an image's area.
    """

    area: tuple[float, float] = CROP_AREA
    num_draws: ClassVar[int] = 2 * ATTEMPTS

    def draw(self, position, random):
        tries = tf.reshape(random, (-1, ATTEMPTS, 2))
        return {"fractions": crop_fractions(tries, self.area), "position": position}

    def choose(self, shape, size, drawn, targets):
        return {"window": random_window(shape, drawn["fractions"], drawn["position"])}


@dataclasses.dataclass(frozen=True)
class ShortSideCrop(Crop):
    """The image at a random scale, of which a window of the step's size is cut at a random place.

    Where the resized image is smaller than the step's, it lies at a random place in it.

    Args:
        short_side: Smallest and largest short side of the resized image, in parts of the step's.
    """

    short_side: tuple[float, float] = SHORT_SIDE
    num_draws: ClassVar[int] = 1

    def choose(self, shape, size, drawn, targets):
        least, most = self.short_side
        shape, size = tf.cast(shape, tf.float32), tf.cast(size, tf.float32)
        side = (least + (most - least) * drawn["random"][0]) * tf.reduce_min(size)
        resized = tf.maximum(tf.round(shape * side / tf.reduce_min(shape)), 1.0)
        room = tf.abs(resized - size)
        # float32 may round a draw just below 1 up to the next whole pixel.
        place = tf.minimum(tf.floor(drawn["position"] * (room + 1.0)), room)
        place = tf.where(resized >= size, place, -place)
        scale = shape / resized
        return framed(tf.concat([place * scale, size * scale], 0), shape, size)


@dataclasses.dataclass(frozen=True)
class SampleCrop(Crop):
    """SSD's: a part of the image in which enough of some box lies, stretched to the step's size.

    Half of the images are first laid into a larger black one. Of a fixed number of parts of random
    place, size and aspect the first one is taken that holds a box's centre and covers as much of
    it, in intersection over union, as was drawn for this image; where there is none, the whole.

    Args:
        zoom_out: Largest side of the black image, in sides of the image; 1 is none.

    Reference: [SSD](https://arxiv.org/abs/1512.02325), section 2.2.
    """

    zoom_out: float = ZOOM_OUT
    num_draws: ClassVar[int] = 3 + 4 * _SAMPLE_TRIES
    needs: ClassVar[tuple[str, ...]] = ("boxes", "labels")

    def choose(self, shape, size, drawn, targets):
        shape, size = tf.cast(shape, tf.float32), tf.cast(size, tf.float32)
        zoom, ratio, overlap = (drawn["random"][index] for index in range(3))
        ratio = tf.where(zoom < _ZOOM_OUT_SHARE, 1.0 + (self.zoom_out - 1.0) * ratio, 1.0)
        canvas = ratio * shape
        whole = tf.concat([drawn["position"] * (shape - canvas), canvas], 0)
        index = tf.cast(overlap * len(_SAMPLE_OVERLAPS), tf.int32)
        overlap = tf.gather(tf.constant(_SAMPLE_OVERLAPS), index)
        # (4 tries) -> (tries, 4)
        windows = _parts(whole, tf.reshape(drawn["random"][3:], (_SAMPLE_TRIES, 4)))
        fits = _holds_a_box(windows, targets["boxes"], targets["labels"] >= 0, overlap)
        aspect = windows[:, 3] / windows[:, 2]
        fits &= (aspect >= _SAMPLE_ASPECT[0]) & (aspect <= _SAMPLE_ASPECT[1]) & (overlap < 1.0)
        found = tf.gather(windows, tf.argmax(fits))
        return framed(tf.where(tf.reduce_any(fits), found, whole), shape, size)


CROPS = {
    "random_resized": RandomResizedCrop,
    "short_side": ShortSideCrop,
    "sample": SampleCrop,
}


def make_crop(
    name: str,
    crop_area: tuple[float, float] = CROP_AREA,
    short_side: tuple[float, float] = SHORT_SIDE,
    zoom_out: float = ZOOM_OUT,
) -> Crop:
    """Returns the crop called `name`, with those of the options that it has.

    Raises:
        ValueError: If there is none, an option has no such value, or belongs to another crop.
    """
    if name not in CROPS:
        raise ValueError(f"`crop` must be one of {tuple(CROPS)}. Received: {name!r}.")
    if not 0.0 < crop_area[0] <= crop_area[1] <= 1.0:
        raise ValueError(
            f"`crop_area` must be two rising fractions in (0, 1]. Received: {crop_area}."
        )
    if not 0.0 < short_side[0] <= short_side[1]:
        raise ValueError(
            f"`short_side` must be two rising positive numbers. Received: {short_side}."
        )
    if not 1.0 <= zoom_out < math.inf:
        raise ValueError(f"`zoom_out` must be at least 1. Received: {zoom_out}.")
    options = {
        "random_resized": ("crop_area", tuple(crop_area), CROP_AREA),
        "short_side": ("short_side", tuple(short_side), SHORT_SIDE),
        "sample": ("zoom_out", zoom_out, ZOOM_OUT),
    }
    for owner, (option, value, default) in options.items():
        if owner != name and value != default:
            raise ValueError(
                f"`{option}` goes with `crop={owner!r}`. Received: crop={name!r}, {option}={value}."
            )
    return CROPS[name](options[name][1])


def framed(window: tf.Tensor, shape: tf.Tensor, size: tf.Tensor) -> dict[str, tf.Tensor]:
    """What of a window that may reach beyond the image is seen, and where.

    Args:
        window: `(top, left, height, width)` in the image's pixels, with fractions, float32; a part
            of the image must lie in it.
        shape: The image's height and width, float32.
        size: Height and width that the whole window becomes, float32.

    Returns:
        `window`, whole pixels of the image, and `frame`, whole pixels of the size, both int32.
    """
    start, length = window[:2], window[2:]
    end = start + length
    scale = size / length
    # At an edge of the window that lies inside of the image, the frame ends where the window does:
    # what rounding moves there is a part of a pixel, and leaves no black line.
    before = tf.minimum(tf.round(tf.maximum(-start, 0.0) * scale), size - 1.0)
    after = tf.round(tf.maximum(end - shape, 0.0) * scale)
    becomes = tf.maximum(size - before - after, 1.0)
    start = tf.clip_by_value(tf.round(start), 0.0, shape - 1.0)
    end = tf.clip_by_value(tf.round(end), start + 1.0, shape)
    window = tf.concat([start, end - start], 0)
    frame = tf.concat([before, becomes], 0)
    return {"window": tf.cast(window, tf.int32), "frame": tf.cast(frame, tf.int32)}


def _parts(whole: tf.Tensor, random: tf.Tensor) -> tf.Tensor:
    """Parts of a window of random sides and at random places, `(N, 4)` like it."""
    least, most = _SAMPLE_SIDE
    sides = (least + (most - least) * random[:, :2]) * whole[2:]
    return tf.concat([whole[:2] + random[:, 2:] * (whole[2:] - sides), sides], 1)


def _holds_a_box(
    windows: tf.Tensor, boxes: tf.Tensor, real: tf.Tensor, overlap: tf.Tensor
) -> tf.Tensor:
    """Which windows hold a box's centre, and overlap with the box by `overlap` or more.

    Args:
        windows: `(N, 4)`, top, left, height, width.
        boxes: `(M, 4)`, left, top, right, bottom.
        real: Which of the boxes are none of the padding, `(M,)`.
        overlap: Least intersection over union.

    Returns:
        bool `(N,)`.
    """
    # (N, 1) against (M,)
    top, left, height, width = (windows[:, index, None] for index in range(4))
    bottom, right = top + height, left + width
    x0, y0, x1, y1 = tf.unstack(boxes, axis=1)
    x, y = (x0 + x1) / 2.0, (y0 + y1) / 2.0
    holds = real & (x > left) & (x < right) & (y > top) & (y < bottom)
    common_width = tf.maximum(tf.minimum(right, x1) - tf.maximum(left, x0), 0.0)
    common_height = tf.maximum(tf.minimum(bottom, y1) - tf.maximum(top, y0), 0.0)
    common = common_width * common_height
    union = height * width + (x1 - x0) * (y1 - y0) - common
    return tf.reduce_any(holds & (common >= overlap * union), 1)


def crop_fractions(random: tf.Tensor, area: tuple[float, float]) -> tf.Tensor:
    """Turns uniform draws into crop sizes as fractions of the root of an image's area.

    Args:
        random: Uniform draws in [0, 1), shape `(..., 2)`.
        area: Smallest and largest fraction of the image's area that a crop covers.

    Returns:
        Height and width over sqrt(image area), shape `(..., 2)`; aspect ratios are log-uniform
        between 3/4 and 4/3.
    """
    covered = area[0] + (area[1] - area[0]) * random[..., 0]
    low, high = (math.log(aspect) for aspect in CROP_ASPECT)
    aspect = tf.exp(low + (high - low) * random[..., 1])
    return tf.sqrt(tf.stack([covered / aspect, covered * aspect], -1))


def random_window(shape: tf.Tensor, fractions: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Places a RandomResizedCrop: the first of several tries that fits, else a centred crop.

    Args:
        shape: Height and width of the image, int32.
        fractions: Tries from `crop_fractions`, shape `(tries, 2)`.
        position: Two uniform draws in [0, 1) for the place, top then left.

    Returns:
        int32 `(top, left, height, width)`.
    """
    dims = tf.cast(shape, tf.float32)
    tries = tf.maximum(tf.round(tf.sqrt(tf.reduce_prod(dims)) * fractions), 1.0)
    fits = tf.reduce_all(tries <= dims, -1)
    first = tf.argmax(fits)
    found = tf.gather(fits, first)
    # Without a fit (a very long image) the largest centred crop of an allowed aspect is taken.
    longest = tf.minimum(dims, tf.round(tf.reverse(dims, [0]) * CROP_ASPECT[1]))
    size = tf.where(found, tf.gather(tries, first), longest)
    room = dims - size
    place = tf.floor(tf.where(found, position * (room + 1.0), room / 2))
    # float32 may round a draw just below 1 up to the next whole pixel.
    return tf.cast(tf.concat([tf.minimum(place, room), size], 0), tf.int32)


def centre_window(shape: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns the largest centred window of the aspect height : width, `(top, left, h, w)`."""
    dims = tf.cast(shape, tf.float32)
    target = tf.cast(tf.stack([height, width]), tf.float32)
    size = tf.maximum(tf.round(target * tf.reduce_min(dims / target)), 1.0)
    return tf.cast(tf.concat([tf.floor((dims - size) / 2), size], 0), tf.int32)
