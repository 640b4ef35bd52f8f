"""AdamW, the learning-rate schedule of the paper's recipe, and loss scaling for float16."""

from collections.abc import Mapping

import keras

from mobilevit_keras.training.recipe import Recipe


def warmup_cosine(
    initial: float, peak: float, final: float, warmup_steps: int, total_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear from `initial` to `peak` over `warmup_steps` updates, then a cosine down to `final`.

    Args:
        initial: Learning rate of the first update.
        peak: Learning rate after the warm-up.
        final: Learning rate at `total_steps` and after it.
        warmup_steps: Updates of the warm-up; fewer than `total_steps`.
        total_steps: Updates of the whole training.

    Raises:
        ValueError: If the warm-up leaves no update to the cosine, or a rate is negative.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            "`warmup_steps` must be at least 0 and less than the training's updates. "
            f"Received: warmup_steps={warmup_steps}, total_steps={total_steps}."
        )
    if min(initial, final) < 0 or peak <= 0:
        raise ValueError(
            "Learning rates must not be negative, and the peak must be positive. "
            f"Received: initial={initial}, peak={peak}, final={final}."
        )
    warms_up = warmup_steps > 0
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=initial if warms_up else peak,
        decay_steps=total_steps - warmup_steps,
        alpha=final / peak,
        warmup_target=peak if warms_up else None,
        warmup_steps=warmup_steps,
    )


def paper_optimizer(
    total_steps: int,
    *,
    initial_learning_rate: float = Recipe.initial_learning_rate,
    peak_learning_rate: float = Recipe.peak_learning_rate,
    final_learning_rate: float = Recipe.final_learning_rate,
    warmup_steps: int = Recipe.warmup_steps,
    weight_decay: float = Recipe.weight_decay,
    decay_norms_and_biases: bool = Recipe.decay_norms_and_biases,
    clip_norm: float | None = Recipe.clip_norm,
    gradient_accumulation: int = Recipe.gradient_accumulation,
    learning_rate_factors: Mapping[str, float] | None = None,
) -> "AdamW":
    """The paper's optimizer: AdamW, a linear warm-up and a cosine.

    Args:
        total_steps: Batches of the whole training.
        initial_learning_rate: That of the first update.
        peak_learning_rate: That after the warm-up.
        final_learning_rate: That of the last update.
        warmup_steps: Updates of the warm-up, but no more than a tenth of all: a short training
            would end before the paper's warm-up does.
        weight_decay: AdamW's.
        decay_norms_and_biases: Whether norms and biases decay too.
        clip_norm: Largest global norm of the gradients; None leaves them as they are.
        gradient_accumulation: Batches for each update.
        learning_rate_factors: See `AdamW`.

    Raises:
        ValueError: If a value makes no such training.
    """
    if min(total_steps, gradient_accumulation) < 1 or warmup_steps < 0:
        raise ValueError(
            "A training has 1 step or more, 1 batch or more for each update and no negative "
            f"warm-up. Received: total_steps={total_steps}, warmup_steps={warmup_steps}, "
            f"gradient_accumulation={gradient_accumulation}."
        )
    updates = max(1, total_steps // gradient_accumulation)
    return AdamW(
        warmup_cosine(
            initial_learning_rate,
            peak_learning_rate,
            final_learning_rate,
            min(warmup_steps, updates // 10),
            updates,
        ),
        weight_decay=weight_decay,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        global_clipnorm=clip_norm,
        gradient_accumulation_steps=gradient_accumulation if gradient_accumulation > 1 else None,
        decay_norms_and_biases=decay_norms_and_biases,
        learning_rate_factors=learning_rate_factors,
    )


@keras.saving.register_keras_serializable("mobilevit_keras")
class AdamW(keras.optimizers.AdamW):
    """AdamW with PyTorch's arithmetic, in far fewer graph nodes than Keras's own.

    Arguments and variables are those of `keras.optimizers.AdamW`, and these are otherwise:

    - `epsilon` is added to the root of the bias-corrected second moment, as in PyTorch and in the
      paper; TensorFlow's kernels add it before the correction, 30 times as much at first.
    - A learning-rate schedule is asked for the update, not for the batch: with gradient
      accumulation Keras's own would run through it several times too fast.
    - Keras works the schedule out anew for each variable that decays and updates each in over
      twenty nodes; here the schedule is worked out once and one fused kernel updates a variable.
      MobileViT has 251 of them: most of the training graph, and of the time until the first step,
      is saved.
    - Some variables may learn at a multiple of the rate, such as a new head on a trained backbone.
      Their decay, a share of the rate, is multiplied too, as in PyTorch's parameter groups.

    On other backends than TensorFlow, and with `amsgrad`, the update is Keras's own.

    Args:
        decay_norms_and_biases: Whether weight decay covers variables of one dimension.
        learning_rate_factors: What the learning rate is multiplied by, by what a variable's `path`
            begins with, such as {"head/": 10.0}; of several beginnings the longest counts.
        **arguments: Those of `keras.optimizers.AdamW`.

    Raises:
        ValueError: If a factor is not positive or, when the optimizer is built, no variable's path
            begins so.

    Reference: [Decoupled weight decay regularization](https://arxiv.org/abs/1711.05101).
    """

    def __init__(
        self,
        *arguments,
        decay_norms_and_biases: bool = True,
        learning_rate_factors: Mapping[str, float] | None = None,
        **more,
    ) -> None:
        super().__init__(*arguments, **more)
        self.decay_norms_and_biases = decay_norms_and_biases
        # Not a dict: Keras would wrap and track one.
        self._factors = tuple(sorted((learning_rate_factors or {}).items()))
        for beginning, factor in self._factors:
            if not factor > 0:
                raise ValueError(
                    "A factor of `learning_rate_factors` must be positive. "
                    f"Received: {factor} for {beginning!r}."
                )
        self._factor_of_index: tuple[float, ...] = ()

    def build(self, variables) -> None:
        super().build(variables)
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        for beginning, _ in self._factors:
            if not any(path.startswith(beginning) for path in paths):
                raise ValueError(
                    "A key of `learning_rate_factors` must be the beginning of a variable's path. "
                    f"Received: {beginning!r}; the paths are {', '.join(paths[:5])} and others."
                )
        self._factor_of_index = tuple(self._factor_of(path) for path in paths)

    def _factor_of(self, path: str) -> float:
        fitting = [item for item in self._factors if path.startswith(item[0])]
        return max(fitting, key=lambda item: len(item[0]))[1] if fitting else 1.0

    def factor(self, variable) -> float:
        """What a variable's learning rate is the optimizer's times."""
        return self._factor_of_index[self._get_variable_index(variable)]

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "decay_norms_and_biases": self.decay_norms_and_biases,
            "learning_rate_factors": dict(self._factors) or None,
        }

    def _use_weight_decay(self, variable) -> bool:
        if not self.decay_norms_and_biases and len(variable.shape) == 1:
            return False
        return super()._use_weight_decay(variable)

    def _get_current_learning_rate(self):
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            # `_iterations`, which Keras takes, counts batches.
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def _apply_weight_decay(self, variables) -> None:
        if self.weight_decay is None:
            return
        if keras.backend.backend() != "tensorflow":
            for variable in variables:
                if self._use_weight_decay(variable):
                    rate = self.weight_decay * self.learning_rate * self.factor(variable)
                    variable.assign(variable - variable * keras.ops.cast(rate, variable.dtype))
            return
        import tensorflow as tf

        def decay(variable, kept) -> None:
            variable.assign(variable * tf.cast(kept, variable.dtype))

        # One number for each factor, not for each variable.
        factors = sorted(set(self._factor_of_index))
        rate = self.weight_decay * self.learning_rate

        def decay_all(distribution, *kept) -> None:
            for variable in variables:
                if self._use_weight_decay(variable):
                    value = variable.value if isinstance(variable, keras.Variable) else variable
                    share = kept[factors.index(self.factor(variable))]
                    distribution.extended.update(value, decay, args=(share,), group=False)

        tf.__internal__.distribute.interim.maybe_merge_call(
            decay_all, self._distribution_strategy, *(1.0 - factor * rate for factor in factors)
        )

    def update_step(self, gradient, variable, learning_rate) -> None:
        factor = self.factor(variable)
        if factor != 1.0:
            learning_rate = learning_rate * factor
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(tf.convert_to_tensor(self.iterations) + 1, dtype)
        beta2_power = tf.pow(tf.cast(self.beta_2, dtype), step)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=beta2_power,
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            # The kernel adds it to the root of the moment before its bias is corrected.
            epsilon=tf.cast(self.epsilon, dtype) * tf.sqrt(1.0 - beta2_power),
            grad=tf.cast(gradient, dtype),
        )


@keras.saving.register_keras_serializable("mobilevit_keras")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's loss scaling, with one decision for all replicas.

    Keras asks each replica's own gradients whether they are finite, or the first one's alone,
    before they are added up: an overflow elsewhere reaches the weights, or the replicas disagree
    on whether there is an update. Here one replica's overflow skips the update on all.
    """

    def check_finite(self, grads):
        finite = super().check_finite(grads)
        if keras.backend.backend() != "tensorflow":
            return finite
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return finite
        overflows = context.all_reduce(tf.distribute.ReduceOp.SUM, 1.0 - tf.cast(finite, "float32"))
        return tf.equal(overflows, 0.0)
