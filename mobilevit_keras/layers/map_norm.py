import keras
from keras import ops

from mobilevit_keras.layers.batch_norm import EPSILON

_ALL_BUT_THE_BATCH = (1, 2, 3)


@keras.saving.register_keras_serializable("mobilevit_keras")
class MapNorm(keras.layers.Layer):
    """Normalizes each image's whole map: one mean and one variance over pixels and channels.

    Known as group normalization with one group, and what MobileViTv2's authors call LayerNorm2D. In
    mixed precision it computes in float32.

    Args:
        affine: Whether each channel has a scale and a shift.
        epsilon: Added to the variance under the root.

    Input shape: `(B, P, N, C)`
    Output shape: `(B, P, N, C)`

    Example:
    >>> MapNorm()(np.array([1.0, 3.0]).reshape(1, 1, 1, 2)).numpy().ravel().round(3)
    array([-1.,  1.], dtype=float32)

    Reference: [Group Normalization](https://arxiv.org/abs/1803.08494).
    """

    def __init__(self, affine: bool = True, epsilon: float = EPSILON, **kwargs) -> None:
        super().__init__(**kwargs)
        self.affine = affine
        self.epsilon = epsilon
        self.gamma = None
        self.beta = None

    def build(self, input_shape) -> None:
        if self.affine:
            shape = (input_shape[-1],)
            self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
            self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        x = x - ops.mean(x, axis=_ALL_BUT_THE_BATCH, keepdims=True)
        variance = ops.mean(ops.square(x), axis=_ALL_BUT_THE_BATCH, keepdims=True)
        x = x * ops.rsqrt(variance + self.epsilon)
        if self.affine:
            x = x * ops.cast(self.gamma, "float32") + ops.cast(self.beta, "float32")
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict:
        return {**super().get_config(), "affine": self.affine, "epsilon": self.epsilon}
