"""A task of a person's own: what the mean colour of an image is. One small model, one module."""

import keras
import numpy as np

import mobilevit_keras as mv
from mobilevit_keras.layers import ConvNormAct
from mobilevit_keras.tasks import Comparison, FileOutput, Meter, Task, register


@keras.saving.register_keras_serializable("tests")
class MeanColourModel(mv.VisionTask):
    """Images in, three numbers out: `(B, 3)`."""

    def __init__(self, backbone, class_names=None, preprocessing=None, frozen=(), **kwargs):
        form, dtype = backbone.config["form"], backbone.config["dtype"]
        expand = ConvNormAct(8, 1, activation="silu", form=form, dtype=dtype, name="colour_expand")
        mix = ConvNormAct(
            3, 1, use_norm=False, activation=None, form=form, dtype=dtype, name="colour_mix"
        )
        (images,) = backbone.inputs
        # Of the first stage alone, which the mean colour is near to.
        outputs = keras.layers.GlobalAveragePooling2D(dtype="float32", name="mean")(
            mix(expand(backbone(images)))
        )
        super().__init__(
            backbone,
            images=images,
            outputs=outputs,
            class_names=class_names,
            preprocessing=preprocessing,
            frozen=frozen,
            **kwargs,
        )

    def default_loss(self):
        return keras.losses.MeanSquaredError()

    def default_metrics(self):
        return [Closeness()]


@keras.saving.register_keras_serializable("tests")
class Closeness(keras.metrics.Mean):
    """1 less the mean absolute difference."""

    def __init__(self, name="closeness", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(
            1.0 - keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1), sample_weight
        )


class Difference(Comparison):
    def __init__(self, expected, actual):
        self.images = len(expected)
        self.largest = float(np.abs(expected - actual).max())

    def as_json(self):
        return {"images": self.images, "max_abs_difference": self.largest}

    def summary(self):
        return f"on {self.images} images: largest difference {self.largest:.2e}"

    def problem(self, file_format, precision):
        return None if self.largest < 1e-3 else f"The colours differ by {self.largest}."


class ColourMeter(Meter):
    def __init__(self):
        self.differences = []

    def update(self, outputs, targets):
        self.differences.extend(np.abs(outputs["colour"] - np.asarray(targets)).mean(-1))

    def result(self):
        return {"closeness": 1.0 - float(np.mean(self.differences))}


@register
class MeanColour(Task):
    name = "mean_colour"
    model_class = MeanColourModel
    fields = ()
    monitor = "closeness"
    curves = (("Closeness", "closeness"),)

    def prepare(self, model):
        def mean(images, targets):
            return images, keras.ops.mean(images, axis=(1, 2))

        return mean

    prepare_evaluation = prepare

    def loss(self):
        return keras.losses.MeanSquaredError()

    def metrics(self, model):
        return [Closeness()]

    def serve(self, outputs):
        return {"colour": outputs}

    def file_outputs(self, model):
        return [FileOutput("colour", "Mean red, green and blue")]

    def compare(self, expected, actual):
        return Difference(expected["colour"], actual["colour"])

    def meter(self, class_names):
        return ColourMeter()
