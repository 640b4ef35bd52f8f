"""Where the pixels of a network's image come from: windows, resizes, flips, and the way back.

Evaluation's rules stand here with their defaults, training's in `crops`; targets that lie in an
image follow its pixels.
"""

import dataclasses

import tensorflow as tf

from mobilevit_keras.paper import BASE_SIZE

CROP_SIZE = BASE_SIZE
INTERPOLATIONS = ("bilinear", "bicubic")
RESIZES = ("crop", "stretch")
OUTSIDE = 255  # what a mask holds where there is no image

CropSize = int | tuple[int, int]
"""Side of a square crop, or its height and width."""


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A window of an image, resized and perhaps mirrored; the same for image, boxes and masks.

    Attributes:
        window: `(top, left, height, width)` in the image's pixels. Fractions are right for boxes
            and masks; an image is cut out at whole pixels.
        size: Height and width of the network's image.
        flip: Whether left and right are then exchanged, a bool or a scalar tensor.
        frame: `(top, left, height, width)` in the network's pixels before the flip: what the window
            becomes where it does not fill all of them. Around it is nothing: black pixels, 255 in
            a mask.
    """

    window: tf.Tensor
    size: tf.Tensor
    flip: tf.Tensor | bool = False
    frame: tf.Tensor | None = None

    def image(self, image: tf.Tensor) -> tf.Tensor:
        """Cuts out the window, which must lie inside of the image, and resizes it.

        Args:
            image: uint8 or float32 `(H, W, 3)`, values in 0..255.

        Returns:
            float32 of `size`, values in [0, 1].
        """
        return self.place(self.resize(cut(image, self.window)))

    def resize(self, window: tf.Tensor, interpolation: str = "bilinear") -> tf.Tensor:
        """Does what `image` does with the pixels of a window that has been cut out already.

        Args:
            window: The pixels.
            interpolation: `"bilinear"`, or `"bicubic"` (Keys, a = -0.5; overshoot is clipped).

        Returns:
            float32 of `size`; of the frame's size where there is one, see `place`.
        """
        flip = tf.convert_to_tensor(self.flip)
        image = tf.cond(flip, lambda: tf.reverse(window, [1]), lambda: window)
        size = tf.cast(self.size if self.frame is None else self.frame[2:], tf.int32)
        # The bare operation: the checks around it would make each epoch start later. From bytes it
        # would take twice as long as from floats, the step to them included.
        is_bicubic = interpolation == "bicubic"
        operation = tf.raw_ops.ResizeBicubic if is_bicubic else tf.raw_ops.ResizeBilinear
        resized = operation(
            images=tf.cast(image, tf.float32)[None], size=size, half_pixel_centers=True
        )
        if is_bicubic:
            resized = tf.clip_by_value(resized, 0.0, 255.0)
        return resized[0] * (1.0 / 255.0)

    def place(self, image: tf.Tensor) -> tf.Tensor:
        """Lays a resized window into its frame, black around it; without a frame it stays."""
        if self.frame is None:
            return image
        before = self.frame[:2]
        after = tf.cast(self.size, tf.int32) - before - self.frame[2:]
        left = tf.where(self.flip, after[1], before[1])
        right = tf.where(self.flip, before[1], after[1])
        return tf.pad(image, [[before[0], after[0]], [left, right], [0, 0]])

    def boxes(self, boxes: tf.Tensor) -> tf.Tensor:
        """Moves boxes from the image into the network's; parts may come to lie outside of it.

        Args:
            boxes: `(N, 4)`, left, top, right and bottom in pixels.

        Returns:
            float32 `(N, 4)` in the same order.
        """
        origin, scale, target = self._affine()
        boxes = (tf.cast(boxes, tf.float32) - origin) * scale + target
        return tf.where(self.flip, self._mirrored(boxes), boxes)

    def boxes_back(self, boxes: tf.Tensor) -> tf.Tensor:
        """Moves boxes of the network's image back into the whole one; see `boxes`."""
        origin, scale, target = self._affine()
        boxes = tf.cast(boxes, tf.float32)
        boxes = tf.where(self.flip, self._mirrored(boxes), boxes)
        return (boxes - target) / scale + origin

    def bounds(self) -> tf.Tensor:
        """The part of the network's image that shows the window: left, top, right and bottom."""
        rows, columns = self._axis(0), self._axis(1)
        top, left = rows.target, columns.target
        box = tf.stack([left, top, left + columns.becomes, top + rows.becomes])
        return tf.where(self.flip, self._mirrored(box), box)

    def mask(self, mask: tf.Tensor) -> tf.Tensor:
        """Samples a mask at the nearest pixel.

        Args:
            mask: `(H, W)`, a class's number for each pixel of the image.

        Returns:
            The same type, of `size`; 255 where the window lies outside of the image, and around the
            frame.
        """
        rows, columns = (self._axis(axis).sources() for axis in (0, 1))
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
        rows, columns = (self._axis(axis).targets(shape[axis]) for axis in (0, 1))
        width = tf.cast(self.size[1], tf.float32)
        columns = tf.where(self.flip, width - columns, columns)
        return _sample(mask, rows, columns)

    def scores_back(self, scores: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        """Lays a map of scores of the network's image back onto the whole one.

        Args:
            scores: float32 `(h, w)`, cells that share the network's image equally.
            shape: Height and width of the image.

        Returns:
            float32 of `shape`, bilinear between the cells' middles; NaN outside of the window.
        """
        inside = tf.ones(shape, tf.bool)
        for axis in (0, 1):
            targets = self._axis(axis).targets(shape[axis])
            # What is outside is at -1.
            is_inside = tf.reshape(targets >= 0.0, (-1, 1) if axis == 0 else (1, -1))
            inside = inside & is_inside
            if axis == 1:
                width = tf.cast(self.size[1], tf.float32)
                targets = tf.where(self.flip, width - targets, targets)
            scores = _between(scores, targets / tf.cast(self.size[axis], tf.float32), axis)
        return tf.where(inside, scores, float("nan"))

    def _axis(self, index: int) -> "_Axis":
        size = tf.cast(self.size[index], tf.float32)
        start, length = (tf.cast(self.window[index + part], tf.float32) for part in (0, 2))
        if self.frame is None:
            return _Axis(start, length, 0.0, size, size)
        target, becomes = (tf.cast(self.frame[index + part], tf.float32) for part in (0, 2))
        return _Axis(start, length, target, becomes, size)

    def _affine(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """For left, top, right and bottom: where the window begins, its scale, and its place."""
        axes = [self._axis(1), self._axis(0)] * 2
        return (
            tf.stack([axis.start for axis in axes]),
            tf.stack([axis.becomes / axis.length for axis in axes]),
            tf.stack([axis.target for axis in axes]),
        )

    def _mirrored(self, boxes: tf.Tensor) -> tf.Tensor:
        left, top, right, bottom = tf.unstack(boxes, axis=-1)
        width = tf.cast(self.size[1], tf.float32)
        return tf.stack([width - right, top, width - left, bottom], -1)


@dataclasses.dataclass(frozen=True)
class _Axis:
    """A geometry along one axis.

    `length` pixels of the image from `start` on become `becomes` pixels of the network's, of which
    there are `size`, from `target` on.
    """

    start: tf.Tensor
    length: tf.Tensor
    target: tf.Tensor | float
    becomes: tf.Tensor
    size: tf.Tensor

    def sources(self) -> tf.Tensor:
        """Where in the image the centres of the network's pixels lie; -1 outside of the window."""
        points = tf.range(self.size) + 0.5 - self.target
        inside = (points > 0.0) & (points < self.becomes)
        return tf.where(inside, self.start + points * self.length / self.becomes, -1.0)

    def targets(self, side: tf.Tensor) -> tf.Tensor:
        """Where in the network's image the centres of the image's pixels lie; -1 likewise.

        Args:
            side: The image's pixels along the axis.
        """
        points = tf.range(tf.cast(side, tf.float32)) + 0.5 - self.start
        inside = (points > 0.0) & (points < self.length)
        return tf.where(inside, self.target + points * self.becomes / self.length, -1.0)


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


def _between(scores: tf.Tensor, places: tf.Tensor, axis: int) -> tf.Tensor:
    """Values at places along an axis whose length is 1, between the middles of its cells."""
    last = tf.shape(scores)[axis] - 1
    places = places * tf.cast(last + 1, tf.float32) - 0.5
    places = tf.clip_by_value(places, 0.0, tf.cast(last, tf.float32))
    below = tf.cast(tf.floor(places), tf.int32)
    part = tf.reshape(places - tf.floor(places), (-1, 1) if axis == 0 else (1, -1))
    above = tf.gather(scores, tf.minimum(below + 1, last), axis=axis)
    return tf.gather(scores, below, axis=axis) * (1.0 - part) + above * part


def crop_sides(crop_size: CropSize) -> tuple[int, int]:
    """Height and width of a crop."""
    return (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)


def default_short_side(crop_size: CropSize) -> int:
    """The short side that evaluation resizes to where nothing else is said: 9/8 of the crop's."""
    return min(crop_sides(crop_size)) * 9 // 8


def check_evaluation_size(
    short_side: int, crop_size: CropSize, interpolation: str, resize: str = "crop"
) -> None:
    """Raises ValueError unless the crop fits into the resized image and the methods are known."""
    if resize not in RESIZES:
        raise ValueError(f"`resize` must be one of {RESIZES}. Received: {resize!r}.")
    smallest = min(crop_sides(crop_size))
    if smallest < 1 or (resize == "crop" and smallest > short_side):
        raise ValueError(
            "`crop_size` must be positive and at most `short_side`. "
            f"Received: crop_size={crop_size}, short_side={short_side}."
        )
    check_interpolation(interpolation)


def check_interpolation(interpolation: str) -> None:
    """Raises ValueError unless images can be resized so."""
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


def evaluation_geometry(
    shape: tf.Tensor, short_side: int, crop_size: CropSize, resize: str = "crop"
) -> Geometry:
    """The window that evaluation's resize and crop amount to, for boxes and masks."""
    crop = tf.constant(crop_sides(crop_size))
    if resize == "stretch":
        return Geometry(tf.concat([[0, 0], shape], 0), crop)
    resized = evaluation_size(shape, short_side, crop_size)
    scale = tf.cast(shape, tf.float32) / tf.cast(resized, tf.float32)
    offset = tf.cast((resized - crop) // 2, tf.float32)
    window = tf.concat([offset * scale, tf.cast(crop, tf.float32) * scale], 0)
    return Geometry(window, crop)


def evaluation_image(
    image: tf.Tensor,
    short_side: int,
    crop_size: CropSize,
    interpolation: str,
    resize: str = "crop",
) -> tf.Tensor:
    """Resizes an image and crops its centre, or stretches it as a whole.

    The resize samples at half-pixel centres without antialiasing. The crop's offset is floored.

    Args:
        image: uint8 `(H, W, 3)`.
        short_side: See `evaluation_size`; has no part in `"stretch"`.
        crop_size: See `evaluation_size`.
        interpolation: `"bilinear"` or `"bicubic"` (Keys, a = -0.5; overshoot is clipped).
        resize: `"crop"`; or `"stretch"`, the whole image to `crop_size` whatever its aspect.

    Returns:
        float32 of the crop's shape `(h, w, 3)`, values in [0, 1].
    """
    image = tf.cast(image, tf.float32)
    crop = crop_sides(crop_size)
    if resize == "stretch":
        image = tf.image.resize(image, crop, method=interpolation)
    else:
        resized = evaluation_size(tf.shape(image)[:2], short_side, crop_size)
        image = tf.image.resize(image, resized, method=interpolation)
        image = tf.slice(image, tf.concat([(resized - crop) // 2, [0]], 0), (*crop, 3))
    return tf.clip_by_value(image / 255.0, 0.0, 1.0)
