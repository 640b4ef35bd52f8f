"""What the optimisation of a training depends on; the defaults are the paper's."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The values of an optimisation.

    Attributes:
        epochs: Passes over the training images.
        initial_learning_rate: That of the first update.
        peak_learning_rate: That after the warm-up.
        final_learning_rate: That of the last update.
        warmup_steps: Updates of the warm-up; at most a tenth of the whole training.
        head_learning_rate_factor: How many times the rate is what the task puts on the backbone.
        weight_decay: AdamW's.
        decay_norms_and_biases: Whether weight decay covers variables of one dimension.
        clip_norm: Largest global norm of the gradients, or None.
        gradient_accumulation: Batches for each update.
        ema_decay: Of the averaged weights, which are evaluated and saved; 0 for none.
        jit_compile: Whether XLA compiles the step, once for each image size.
        distillation: Share of a teacher's answers in the loss.
        freeze_ranges_after: Steps before a quantization-aware model's ranges are frozen; None for
            half of all.

    Raises:
        ValueError: If a value makes no such training.
    """

    epochs: int = 300
    initial_learning_rate: float = 0.0002
    peak_learning_rate: float = 0.002
    final_learning_rate: float = 0.0002
    warmup_steps: int = 3000
    head_learning_rate_factor: float = 1.0
    weight_decay: float = 0.01
    decay_norms_and_biases: bool = True
    clip_norm: float | None = None
    gradient_accumulation: int = 1
    ema_decay: float = 0.9995
    jit_compile: bool = False
    distillation: float = 0.0
    freeze_ranges_after: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "gradient_accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {getattr(self, name)}.")
        rules = (
            ("initial_learning_rate", "must not be negative", lambda value: value >= 0),
            ("peak_learning_rate", "must be positive", lambda value: value > 0),
            ("final_learning_rate", "must not be negative", lambda value: value >= 0),
            ("warmup_steps", "must not be negative", lambda value: value >= 0),
            ("head_learning_rate_factor", "must be positive", lambda value: value > 0),
            ("weight_decay", "must not be negative", lambda value: value >= 0),
            ("clip_norm", "must be positive", lambda value: value is None or value > 0),
            ("ema_decay", "must be from 0 up to, not including, 1", lambda value: 0 <= value < 1),
            ("distillation", "must be from 0 to 1", lambda value: 0 <= value <= 1),
            (
                "freeze_ranges_after",
                "must not be negative",
                lambda value: value is None or value >= 0,
            ),
        )
        for name, rule, holds in rules:
            value = getattr(self, name)
            if not holds(value):
                raise ValueError(f"`{name}` {rule}. Received: {value}.")

    def optimizer(self, total_steps: int, model=None):
        """Returns the `paper_optimizer` of a training of so many batches.

        Args:
            total_steps: The batches.
            model: The `VisionTask` to train, whose head may learn at a rate of its own.
        """
        from mobilevit_keras.training.optimizer import paper_optimizer

        factors = None
        if self.head_learning_rate_factor != 1.0 and model is not None:
            factors = dict.fromkeys(head_paths(model), self.head_learning_rate_factor)
        return paper_optimizer(
            total_steps,
            initial_learning_rate=self.initial_learning_rate,
            peak_learning_rate=self.peak_learning_rate,
            final_learning_rate=self.final_learning_rate,
            warmup_steps=self.warmup_steps,
            weight_decay=self.weight_decay,
            decay_norms_and_biases=self.decay_norms_and_biases,
            clip_norm=self.clip_norm,
            gradient_accumulation=self.gradient_accumulation,
            learning_rate_factors=factors,
        )


def head_paths(model) -> list[str]:
    """The paths of what a model's task has put on its backbone and training changes."""
    of_backbone = {id(variable) for variable in model.backbone.trainable_variables}
    return [v.path for v in model.trainable_variables if id(v) not in of_backbone]
