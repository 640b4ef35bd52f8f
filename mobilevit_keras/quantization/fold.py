"""The deployment form: norms' constants and the attention scale computed into the kernels."""

import keras
import numpy as np

from mobilevit_keras.layers import (
    DEPLOYMENT,
    TRAINING,
    BatchNorm,
    ConvNormAct,
    MobileViTBlock,
    MobileViTV2Block,
    PreNormLayer,
)
from mobilevit_keras.layers.fake_quant import ActivationQuantizer
from mobilevit_keras.layers.quantized_layers import OnGrid
from mobilevit_keras.models import VisionTask

# Kernel and bias of a dense layer or convolution, float64: products of many constants are rounded
# once, at the end.
_Affine = tuple[np.ndarray, np.ndarray]


def fold(
    model: VisionTask,
    image_shape: tuple[int | None, int | None, int] | None = None,
    form: str = DEPLOYMENT,
) -> VisionTask:
    """Returns the deployment form of a trained model, the same function with fewer layers.

    Batch norm goes into the convolution before it, LayerNorm's scale and shift into the dense
    layers after it, the attention scale into the query.

    Args:
        model: A model in the form "training".
        image_shape: Input shape of the result; that of `model` by default.
        form: Form of the result, one with folded norms.

    Returns:
        A new float32 model; `model` stays as it is.

    Raises:
        ValueError: If the model is of another class or form, its weights are not finite, or its
            fixed input size is not `image_shape`.
    """
    check_model(model, TRAINING)
    arguments = {"form": form, "dtype": "float32"}
    if image_shape is not None:
        check_size(model, image_shape[0], image_shape[1])
        arguments["image_shape"] = tuple(image_shape)
    folded = model.rebuilt(**arguments)
    copy_folded(model, folded)
    return folded


def check_model(model: keras.Model, *forms: str) -> None:
    """Raises ValueError unless `model` is a task's on a backbone in one of `forms`, all finite."""
    if not isinstance(model, VisionTask):
        raise ValueError(
            "The model must be a VisionTask such as MobileViTImageClassifier. "
            f"Received: {type(model).__module__}.{type(model).__name__}."
        )
    if model.form not in forms:
        raise ValueError(f"The model's form must be one of {forms}. Received: {model.form!r}.")
    for weight in model.weights:
        if not np.all(np.isfinite(keras.ops.convert_to_numpy(weight))):
            raise ValueError(
                f"Every weight must be finite. Received: NaN or infinity in {weight.path}."
            )


def check_size(model: VisionTask, height: int, width: int) -> None:
    """Raises ValueError where the model's own input size is fixed and another."""
    fixed = model.backbone.config["image_shape"][:2]
    if any(side not in (None, new) for side, new in zip(fixed, (height, width), strict=True)):
        raise ValueError(
            f"The size must be the one the model was built for, {fixed[0]}x{fixed[1]}. "
            f"Received: {height}x{width}."
        )


def copy_folded(source: keras.Model, target: keras.Model) -> None:
    """Computes `target`'s weights from those of `source`, its twin in the form "training".

    Layers are matched by name. Layers of both that hold no norm are copied.

    Raises:
        ValueError: If a layer of one side has no counterpart on the other.
    """
    _copy_layer(source, target)


def _copy_layer(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    if isinstance(source, ConvNormAct):
        _assign(target.conv, _conv(source))
    elif isinstance(source, PreNormLayer):
        _copy_transformer(source, target)
    else:
        sources, targets = _children(source), _children(target)
        if isinstance(source, MobileViTBlock | MobileViTV2Block):
            _assign(target.project.conv, _conv(source.project, source.norm))
            del sources["norm"], sources["project"], targets["project"]
        if sources.keys() != targets.keys():
            raise ValueError(
                "Both models must have the same layers. "
                f"Received: {sorted(sources.keys() ^ targets.keys())} on one side only."
            )
        if not sources:
            _copy_own_weights(source, target)
        for name, child in sources.items():
            _copy_layer(child, targets[name])


def _children(layer: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """The layers inside `layer` that carry weights, by name."""
    # Keras's only listing of a layer's direct sublayers; `Model.layers` is built on it.
    return {
        child.name: child
        for child in layer._layers
        if child.weights and not isinstance(child, ActivationQuantizer | OnGrid)
    }


def _copy_own_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    targets = {weight.name: weight for weight in target.weights}
    for weight in source.weights:
        targets[weight.name].assign(weight)


def _copy_transformer(source: PreNormLayer, target: PreNormLayer) -> None:
    kernel, bias = _after_norm(source.attention_norm, _affine(source.query))
    if not target.query.use_bias:
        # Separable attention's, which changes nothing.
        bias = np.zeros_like(bias)
    _assign(target.query, (kernel * source.query_scale, bias * source.query_scale))
    for name in ("key", "value"):
        dense = getattr(source, name)
        _assign(getattr(target, name), _after_norm(source.attention_norm, _affine(dense)))
    _assign(target.ffn_expand, _after_norm(source.ffn_norm, _affine(source.ffn_expand)))
    for name in ("output_dense", "ffn_project"):
        _assign(getattr(target, name), _affine(getattr(source, name)))


def _conv(layer: ConvNormAct, before: keras.layers.Layer | None = None) -> _Affine:
    """Kernel and bias of a convolution with the norms around it."""
    affine = _affine(layer.conv)
    if before is not None:
        affine = _after_norm(before, affine)
    if layer.norm is None:
        return affine
    return _before_norm(affine, layer.norm, is_depthwise=layer.filters is None)


def _numpy(weight) -> np.ndarray:
    return keras.ops.convert_to_numpy(weight).astype(np.float64)


def _affine(layer: keras.layers.Layer) -> _Affine:
    kernel = _numpy(layer.kernel)
    if layer.bias is not None:
        return kernel, _numpy(layer.bias)
    # A depthwise kernel is (k, k, C, 1), any other (k, k, C, filters).
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return kernel, np.zeros(kernel.shape[2 if is_depthwise else 3])


def _after_norm(norm: keras.layers.Layer, affine: _Affine) -> _Affine:
    """A 1x1 convolution that follows a norm, with the norm's scale and shift in it."""
    kernel, bias = affine
    shift = _numpy(norm.beta) @ kernel[0, 0]
    return kernel * _numpy(norm.gamma)[:, None], bias + shift


def _before_norm(affine: _Affine, norm: BatchNorm, is_depthwise: bool) -> _Affine:
    """A convolution that batch norm follows, with the norm in it."""
    kernel, bias = affine
    scale = _numpy(norm.gamma) / np.sqrt(_numpy(norm.moving_variance) + norm.epsilon)
    shift = _numpy(norm.beta) - _numpy(norm.moving_mean) * scale
    return kernel * (scale[:, None] if is_depthwise else scale), bias * scale + shift


def _assign(layer: keras.layers.Layer, affine: _Affine) -> None:
    kernel, bias = affine
    layer.kernel.assign(kernel.astype(np.float32))
    if layer.bias is not None:
        layer.bias.assign(bias.astype(np.float32))
    elif np.any(bias):
        raise ValueError(f"{layer.path} must have a bias to take a norm's shift.")
