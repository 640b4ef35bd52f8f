"""Where the pixels of a network's image come from: crops, resizes, flips, and the way back.

All rules for crops stand here, with their defaults; targets that lie in an image follow its pixels.
"""

import dataclasses
import math

import tensorflow as tf

from mobilevit_keras.paper import BASE_SIZE

CROP_ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10  # tries of RandomResizedCrop before it settles for a centred crop
CROP_SIZE = BASE_SIZE
INTERPOLATIONS = ("bilinear", "bicubic")
OUTSIDE = 255  # what a mask holds where there is no image

CropSize = int | tuple[int, int]
"""Side of a square crop, or its height and width."""


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A window of an image, resized and perhaps mirrored; the same for image, boxes and masks.

    Attributes:
        window: `(top, left, height, width)` in the image's pixels. Fractions are right for boxes
            and masks; an image is cut out at whole pixels.
        size: Height and width that the window becomes.
        flip: Whether left and right are then exchanged, a bool or a scalar tensor.
    """

    window: tf.Tensor
    size: tf.Tensor
    flip: tf.Tensor | bool = False

    def image(self, image: tf.Tensor) -> tf.Tensor:
        """Cuts out the window, which must lie inside of the image, and resizes it.

        Args:
            image: uint8 or float32 `(H, W, 3)`, values in 0..255.

        Returns:
            float32 of `size`, values in [0, 1].
        """
        return self.resize(cut(image, self.window))

    def resize(self, window: tf.Tensor) -> tf.Tensor:
        """Does the rest of `image` with the pixels of a window that has been cut out already."""
        flip = tf.convert_to_tensor(self.flip)
        image = tf.cond(flip, lambda: tf.reverse(window, [1]), lambda: window)
        size = tf.cast(tf.stack(tuple(self.size)), tf.int32)
        # The bare operation: the checks around it would make each epoch start later. From bytes it
        # would take twice as long as from floats, the step to them included.
        resized = tf.raw_ops.ResizeBilinear(
            images=tf.cast(image, tf.float32)[None], size=size, half_pixel_centers=True
        )
        return resized[0] * (1.0 / 255.0)

    def boxes(self, boxes: tf.Tensor) -> tf.Tensor:
        """Moves boxes from the image into the network's; parts may come to lie outside of it.

        Args:
            boxes: `(N, 4)`, left, top, right and bottom in pixels.

        Returns:
            float32 `(N, 4)` in the same order.
        """
        boxes = (tf.cast(boxes, tf.float32) - self._origin()) * self._scale()
        return tf.where(self.flip, self._mirrored(boxes), boxes)

    def boxes_back(self, boxes: tf.Tensor) -> tf.Tensor:
        """Moves boxes of the network's image back into the whole one; see `boxes`."""
        boxes = tf.cast(boxes, tf.float32)
        boxes = tf.where(self.flip, self._mirrored(boxes), boxes)
        return boxes / self._scale() + self._origin()

    def mask(self, mask: tf.Tensor) -> tf.Tensor:
        """Samples a mask at the nearest pixel.

        Args:
            mask: `(H, W)`, a class's number for each pixel of the image.

        Returns:
            The same type, of `size`; 255 where the window lies outside of the image.
        """
        height, width = self._sides()
        rows = self.window_part(0) + (tf.range(height) + 0.5) * self.window_part(2) / height
        columns = self.window_part(1) + (tf.range(width) + 0.5) * self.window_part(3) / width
        columns = tf.where(self.flip, tf.reverse(columns, [0]), columns)
        return _sample(mask, rows, columns)

    def mask_back(self, mask: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        """Lays a mask of the network's image back onto the whole one.

        Args:
            mask: `(H, W)` of `size`.
            shape: Height and width of the image.

        Returns:
            The same type, of `shape`; 255 outside of the window.
        """
        height, width = self._sides()
        rows = tf.range(tf.cast(shape[0], tf.float32)) + 0.5 - self.window_part(0)
        columns = tf.range(tf.cast(shape[1], tf.float32)) + 0.5 - self.window_part(1)
        columns = columns * width / self.window_part(3)
        columns = tf.where(self.flip, width - columns, columns)
        return _sample(mask, rows * height / self.window_part(2), columns)

    def window_part(self, index: int) -> tf.Tensor:
        """One number of the window, as float32."""
        return tf.cast(self.window[index], tf.float32)

    def _sides(self) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(self.size[0], tf.float32), tf.cast(self.size[1], tf.float32)

    def _origin(self) -> tf.Tensor:
        return tf.stack([self.window_part(1), self.window_part(0)] * 2)

    def _scale(self) -> tf.Tensor:
        height, width = self._sides()
        return tf.stack([width / self.window_part(3), height / self.window_part(2)] * 2)

    def _mirrored(self, boxes: tf.Tensor) -> tf.Tensor:
        left, top, right, bottom = tf.unstack(boxes, axis=-1)
        width = self._sides()[1]
        return tf.stack([width - right, top, width - left, bottom], -1)


def cut(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Returns the pixels of a window `(top, left, height, width)` of whole pixels."""
    return image[window[0] : window[0] + window[2], window[1] : window[1] + window[3]]


def _sample(mask: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The values of the pixels that hold the given points; 255 for points outside of the mask."""
    shape = tf.shape(mask)[:2]
    rows, columns = (tf.cast(tf.floor(points), tf.int32) for points in (rows, columns))
    sampled = tf.gather(mask, tf.clip_by_value(rows, 0, shape[0] - 1))
    sampled = tf.gather(sampled, tf.clip_by_value(columns, 0, shape[1] - 1), axis=1)
    inside = ((rows >= 0) & (rows < shape[0]))[:, None] & (columns >= 0) & (columns < shape[1])
    return tf.where(inside, sampled, tf.cast(OUTSIDE, mask.dtype))


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


def crop_sides(crop_size: CropSize) -> tuple[int, int]:
    """Height and width of a crop."""
    return (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)


def default_short_side(crop_size: CropSize) -> int:
    """The short side that evaluation resizes to where nothing else is said: 9/8 of the crop's."""
    return min(crop_sides(crop_size)) * 9 // 8


def check_evaluation_size(short_side: int, crop_size: CropSize, interpolation: str) -> None:
    """Raises ValueError unless the crop fits into the resized image and the method is known."""
    if not 0 < min(crop_sides(crop_size)) <= short_side:
        raise ValueError(
            "`crop_size` must be positive and at most `short_side`. "
            f"Received: crop_size={crop_size}, short_side={short_side}."
        )
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"`interpolation` must be one of {INTERPOLATIONS}. Received: {interpolation!r}."
        )


def evaluation_size(shape: tf.Tensor, short_side: int, crop_size: CropSize) -> tf.Tensor:
    """Height and width to which evaluation resizes an image before it crops the centre.

    The image becomes just large enough to cover a box of the crop's aspect, whose shorter side is
    `short_side`: for a square crop, the image's own shorter side becomes `short_side`. What does
    not divide is floored.

    Args:
        shape: Height and width of the image, int32 `(2,)`.
        short_side: The box's side that belongs to the crop's shorter one.
        crop_size: The crop.

    Returns:
        int32 `(2,)`.
    """
    sides = crop_sides(crop_size)
    box = [side * short_side // min(sides) for side in sides]
    by_height = tf.stack([box[0], shape[1] * box[0] // shape[0]])
    by_width = tf.stack([shape[0] * box[1] // shape[1], box[1]])
    return tf.where(box[0] * shape[1] >= box[1] * shape[0], by_height, by_width)


def evaluation_geometry(shape: tf.Tensor, short_side: int, crop_size: CropSize) -> Geometry:
    """The window that evaluation's resize and centred crop amount to, for boxes and masks."""
    crop = tf.constant(crop_sides(crop_size))
    resized = evaluation_size(shape, short_side, crop_size)
    scale = tf.cast(shape, tf.float32) / tf.cast(resized, tf.float32)
    offset = tf.cast((resized - crop) // 2, tf.float32)
    window = tf.concat([offset * scale, tf.cast(crop, tf.float32) * scale], 0)
    return Geometry(window, crop)


def evaluation_image(
    image: tf.Tensor, short_side: int, crop_size: CropSize, interpolation: str
) -> tf.Tensor:
    """Resizes an image and crops its centre.

    The resize samples at half-pixel centres without antialiasing. The crop's offset is floored.

    Args:
        image: uint8 `(H, W, 3)`.
        short_side: See `evaluation_size`.
        crop_size: See `evaluation_size`.
        interpolation: `"bilinear"` or `"bicubic"` (Keys, a = -0.5; overshoot is clipped).

    Returns:
        float32 of the crop's shape `(h, w, 3)`, values in [0, 1].
    """
    resized = evaluation_size(tf.shape(image)[:2], short_side, crop_size)
    image = tf.image.resize(tf.cast(image, tf.float32), resized, method=interpolation)
    crop = crop_sides(crop_size)
    image = tf.slice(image, tf.concat([(resized - crop) // 2, [0]], 0), (*crop, 3))
    return tf.clip_by_value(image / 255.0, 0.0, 1.0)
