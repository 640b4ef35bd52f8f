import keras
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
