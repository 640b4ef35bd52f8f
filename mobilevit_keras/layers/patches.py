import keras
from keras import ops


def _divided(height: int | None, width: int | None, patch_size: int) -> int | None:
    """Patches in an image, None where a side is unknown."""
    for side in (height, width):
        if side is not None and side % patch_size:
            raise ValueError(
                "`patch_size` must divide height and width. "
                f"Received: patch_size={patch_size}, height={height}, width={width}."
            )
    if height is None or width is None:
        return None
    return (height // patch_size) * (width // patch_size)


@keras.saving.register_keras_serializable("mobilevit_keras")
class Unfold(keras.layers.Layer):
    """Groups pixels by their position inside a patch.

    Each of the P positions gets the sequence of the N pixels that hold it, patch after patch in
    row-major order. Only tensors of rank 4 or less appear, because GPU delegates refuse more.

    Args:
        patch_size: Side of the square patch; must divide height and width.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, P, N, C)`, P = patch_size**2, N = H * W / P.

    Raises:
        ValueError: If a known height or width is not divisible.

    Example:
    >>> Unfold(2)(np.zeros((1, 8, 8, 3))).shape
    TensorShape([1, 4, 16, 3])

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), section 3.1.
    """

    def __init__(self, patch_size: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def build(self, input_shape) -> None:
        _divided(*input_shape[1:3], self.patch_size)

    def call(self, inputs):
        p = self.patch_size
        _, height, width, channels = inputs.shape
        num_patches = _divided(height, width, p)
        columns = ops.shape(inputs)[2] // p if width is None else width // p
        rows = -1 if None in (inputs.shape[0], height) else inputs.shape[0] * height // p
        patches = -1 if num_patches is None else num_patches
        batch = ops.shape(inputs)[0]
        # (B, H, W, C) -> (B * H/p, p, W/p, p * C)
        x = ops.reshape(inputs, (rows, p, columns, p * channels))
        # -> (B * H/p, W/p, p, p * C)
        x = ops.transpose(x, (0, 2, 1, 3))
        # -> (B, N, P, C)
        x = ops.reshape(x, (batch, patches, p * p, channels))
        # -> (B, P, N, C)
        return ops.transpose(x, (0, 2, 1, 3))

    def compute_output_shape(self, input_shape) -> tuple:
        batch, height, width, channels = input_shape
        return (batch, self.patch_size**2, _divided(height, width, self.patch_size), channels)

    def get_config(self) -> dict:
        return {**super().get_config(), "patch_size": self.patch_size}


@keras.saving.register_keras_serializable("mobilevit_keras")
class Fold(keras.layers.Layer):
    """Puts pixels grouped by `Unfold` back in their places.

    Args:
        patch_size: Side of the square patch.

    Call arguments:
        inputs: `(B, P, N, C)` as `Unfold` gives it.
        height, width: Size of the image, integers or scalar tensors; N = height * width / P.

    Output shape: `(B, height, width, C)`

    Reference: [MobileViT](https://arxiv.org/abs/2110.02178), section 3.1.
    """

    def __init__(self, patch_size: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def build(self, input_shape) -> None:
        if input_shape[1] != self.patch_size**2:
            raise ValueError(
                "Axis 1 must hold the `patch_size` squared positions of a patch. "
                f"Received: patch_size={self.patch_size}, shape={tuple(input_shape)}."
            )

    def call(self, inputs, height, width):
        p = self.patch_size
        channels = inputs.shape[-1]
        batch = ops.shape(inputs)[0]
        rows = -1
        if isinstance(batch, int) and isinstance(height, int):
            rows = batch * height // p
        # (B, P, N, C) -> (B, N, P, C)
        x = ops.transpose(inputs, (0, 2, 1, 3))
        # -> (B * H/p, W/p, p, p * C)
        x = ops.reshape(x, (rows, width // p, p, p * channels))
        # -> (B * H/p, p, W/p, p * C)
        x = ops.transpose(x, (0, 2, 1, 3))
        # -> (B, H, W, C)
        return ops.reshape(x, (batch, height, width, channels))

    def compute_output_shape(self, input_shape, height=None, width=None) -> tuple:
        sides = (side if isinstance(side, int) else None for side in (height, width))
        return (input_shape[0], *sides, input_shape[-1])

    def get_config(self) -> dict:
        return {**super().get_config(), "patch_size": self.patch_size}
