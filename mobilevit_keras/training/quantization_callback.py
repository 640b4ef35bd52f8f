"""The part of quantization-aware training that happens between batches."""

import keras

from mobilevit_keras.layers.fake_quant import quantizers_of
from mobilevit_keras.quantization import freeze_ranges


class FreezeRanges(keras.callbacks.Callback):
    """Holds the activations' ranges where they are once they have settled.

    From then on only the weights move, toward what the file will compute. A training that goes on
    from a checkpoint with frozen ranges keeps them.

    Args:
        after_steps: Training batches before it.

    Raises:
        ValueError: If `after_steps` is negative, or the model is not a quantization-aware one.
    """

    def __init__(self, after_steps: int) -> None:
        super().__init__()
        if after_steps < 0:
            raise ValueError(f"`after_steps` must not be negative. Received: {after_steps}.")
        self.after_steps = after_steps
        self.num_steps = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not quantizers_of(self.model):
            raise ValueError(
                "Ranges can be frozen in a quantization-aware model only. "
                f"Received: {type(self.model).__name__} without any."
            )
        self._freeze_when_due()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.num_steps += 1
        self._freeze_when_due()

    def _freeze_when_due(self) -> None:
        if self.num_steps == self.after_steps:
            freeze_ranges(self.model)
