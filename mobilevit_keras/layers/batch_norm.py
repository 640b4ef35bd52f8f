"""Batch norm with the constants of MobileViT's published weights."""

import keras

EPSILON = 1e-5
"""Every norm's epsilon, batch norm and LayerNorm alike."""

MOMENTUM = 0.9
"""Weight of the old statistics: 0.9 in Keras's sense is PyTorch's momentum of 0.1."""


@keras.saving.register_keras_serializable("mobilevit_keras")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalization over channels-last images, epsilon 1e-5, momentum 0.9.

    On the TensorFlow backend a training step uses the fused kernel: one graph node and one pass
    over the images where Keras's own takes about ten. The running variance is then
    Bessel-corrected, as in the implementations that trained the published weights. With
    `synchronized=True` the statistics are the whole batch's, over all replicas of a
    `tf.distribute` strategy; one sum over the replicas a norm where Keras's own takes three.

    Input shape: `(B, H, W, C)`
    Output shape: `(B, H, W, C)`
    """

    def __init__(self, momentum: float = MOMENTUM, epsilon: float = EPSILON, **kwargs) -> None:
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        if not (keras.backend.backend() == "tensorflow" and training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        gamma, beta = (tf.convert_to_tensor(v.value) for v in (self.gamma, self.beta))
        if self.synchronized:
            mean, variance, count = self._moments_over_replicas(inputs)
            outputs = tf.nn.batch_normalization(
                tf.cast(inputs, tf.float32), mean, variance, beta, gamma, self.epsilon
            )
            outputs = tf.cast(outputs, inputs.dtype)
            variance = variance * count / tf.maximum(count - 1.0, 1.0)
        else:
            # With mixed precision the kernel takes float16 or bfloat16 images, float32 constants.
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, gamma, beta, epsilon=self.epsilon, is_training=True
            )
        self.moving_mean.assign(
            self.moving_mean.value * self.momentum + mean * (1.0 - self.momentum)
        )
        self.moving_variance.assign(
            self.moving_variance.value * self.momentum + variance * (1.0 - self.momentum)
        )
        return outputs

    def _moments_over_replicas(self, inputs):
        """Mean and variance `(C,)` of every replica's images, and how many values each is of."""
        import tensorflow as tf

        x = tf.cast(inputs, tf.float32)
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
        sums = tf.stack(
            [
                tf.reduce_sum(x, (0, 1, 2)),
                tf.reduce_sum(tf.square(x), (0, 1, 2)),
                tf.fill(tf.shape(x)[3:], count),
            ]
        )
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
        total, total_squared, count = tf.unstack(sums)
        mean = total / count
        return mean, tf.maximum(total_squared / count - tf.square(mean), 0.0), count
