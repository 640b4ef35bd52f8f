import keras
import numpy as np
from keras import ops


def resize_bilinear(images, height, width):
    """Resizes images bilinearly with half-pixel centres, to sizes that only the run may know.

    Args:
        images: `(B, H, W, C)`.
        height: Output height, an integer or a scalar integer tensor.
        width: Output width, likewise.

    Returns:
        `(B, height, width, C)` in the dtype of `images`.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.image.resize(images, (height, width), interpolation="bilinear")
    import tensorflow as tf

    # keras.ops takes only known sizes. The kernel answers float32 whatever arrives.
    # A known size goes in as it is and comes out as the static shape: TF.js cannot run EnsureShape.
    is_known = isinstance(height, int) and isinstance(width, int)
    size = (height, width) if is_known else tf.stack([height, width])
    resized = tf.image.resize(images, size, method="bilinear")
    return tf.cast(resized, images.dtype)


def resize_aligned(images, height, width):
    """Resizes images bilinearly with aligned corners, to sizes that only the run may know.

    The middles of the corner pixels stay where they are, and the others are spaced equally between
    them: cell i of n looks at `i * (old - 1) / (n - 1)`.

    Args:
        images: `(B, H, W, C)`.
        height: Output height, an integer or a scalar integer tensor.
        width: Output width, likewise.

    Returns:
        `(B, height, width, C)` in the dtype of `images`.

    Example:
    >>> resize_aligned(np.array([0.0, 3.0], "float32").reshape(1, 1, 2, 1), 1, 4)[0, 0, :, 0]
    <tf.Tensor: shape=(4,), dtype=float32, numpy=array([0., 1., 2., 3.], dtype=float32)>
    """
    if keras.backend.backend() != "tensorflow":
        for axis, size in ((1, height), (2, width)):
            images = _aligned_along(images, axis, size)
        return images
    import tensorflow as tf

    # One operation, which TFLite, TF.js and their delegates have; tf.image knows of half pixels
    # only. The kernel answers float32 whatever arrives.
    is_known = isinstance(height, int) and isinstance(width, int)
    resized = tf.raw_ops.ResizeBilinear(
        images=images,
        size=(height, width) if is_known else tf.stack([height, width]),
        align_corners=True,
    )
    return tf.cast(resized, images.dtype)


def _aligned_along(images, axis: int, size: int):
    last = images.shape[axis] - 1
    positions = np.arange(size) * (last / max(size - 1, 1))
    low = np.floor(positions).astype("int32")
    share = (positions - low).reshape([-1 if i == axis else 1 for i in range(4)])
    share = ops.cast(share, images.dtype)
    above = ops.take(images, np.minimum(low + 1, last), axis=axis)
    return ops.take(images, low, axis=axis) * (1 - share) + above * share
