"""Models small enough for tests."""

from pathlib import Path

import keras
import numpy as np

from mobilevit_keras import (
    MobileViTBackbone,
    MobileViTImageClassifier,
    MobileViTImageSegmenter,
    MobileViTObjectDetector,
)
from mobilevit_keras.layers import BatchNorm

_FOLDER = Path(__file__).parent
TRAINED = {activation: _FOLDER / f"tiny_{activation}.npz" for activation in ("silu", "hard_swish")}
"""Weights of classifiers that `tests/train_tiny.py` wrote, by activation."""
TRAINED_SEGMENTER = _FOLDER / "tiny_segmenter.npz"
"""Weights of a segmenter that it wrote."""
TRAINED_SEGMENTER_V2 = _FOLDER / "tiny_segmenter_v2.npz"
"""Weights of the same on MobileViTv2."""
TRAINED_DETECTOR = _FOLDER / "tiny_detector.npz"
"""Weights of a detector that it wrote."""

SEPARABLE = {"attention": "separable", "num_heads": 1, "use_fusion": False}
"""What makes a backbone one of MobileViTv2."""


def randomize(model, seed=0):
    """Moves every weight off its initial value, norms' statistics included."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.path.rsplit("/", 1)[1]
        if name in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif name in ("beta", "bias", "moving_mean"):
            weight.assign(generator.normal(0.0, 0.2, weight.shape))
    return model


def tell_images_apart(model, logits=1.0, seed=0):
    """Gives a model with random norms answers that differ from image to image; returns it.

    At random statistics of the norms the signal dies on its way: all images look alike but for one
    part in 100,000, and whatever a file did to them would go unnoticed.

    Args:
        model: A classifier in the form "training".
        logits: Standard deviation of each class's logits over the images.
        seed: Of the images.
    """
    images = coloured_images(32, 64, seed=seed) / 255.0
    _settle_norms(model, images)
    features = model.backbone(images, training=False)
    if model.head.use_expansion:
        features = model.head.expand(features, training=False)
    features = np.asarray(features).mean(axis=(1, 2))
    _tell_apart(model.head.classifier, features, logits, seed)
    return model


def tell_anchors_apart(model, height, width, seed=0):
    """The same of a detector and its anchors.

    Args:
        model: A detector in the form "training".
        height, width: Of the images.
        seed: Of them.
    """
    images = patched_images(32, height, width, seed=seed)[0] / 255.0
    _settle_norms(model, images)
    heads = [model.get_layer(f"head_{level}") for level in range(6)]
    maps = keras.Model(model.inputs[0], [head.input for head in heads])(images, training=False)
    for level, (head, features) in enumerate(zip(heads, maps, strict=True)):
        for layer in (head.project, head.depthwise):
            features = features if layer is None else layer(features, training=False)
        _tell_apart(head.boxes, features, 1.0, seed + 2 * level)
        # So unlike that some boxes are clearly there.
        _tell_apart(head.logits, features, 2.0, seed + 2 * level + 1)
    return model


def _settle_norms(model, images):
    """Gives the norms of a model the statistics of images."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    # In training each layer sees its images by the statistics of the batch, and keeps these.
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _tell_apart(layer, features, spread, seed):
    """Has a 1x1 convolution answer by what differs most among features `(…, C)`."""
    features = np.asarray(features).reshape(-1, features.shape[-1])
    outputs = layer.bias.shape[0]
    centre = features.mean(axis=0)
    # So that rounding is small beside it.
    _, sizes, directions = np.linalg.svd(features - centre, full_matrices=False)
    count = min(3, outputs)
    mixture = np.random.default_rng(seed).normal(size=(count, outputs))
    if outputs == count:
        mixture = np.eye(count)
    answers = directions[:count].T / sizes[:count] * np.sqrt(len(features)) @ mixture
    answers *= spread / np.sqrt(np.mean(np.square((features - centre) @ answers)))
    layer.kernel.assign(answers[None, None])
    layer.bias.assign(-centre @ answers)


def coloured_images(count, height, width=None, seed=0):
    """Images `(count, height, width, 3)`, whole numbers of 0..255, each of its own colour.

    The colour is what a random network tells images apart by; large shapes and some noise are laid
    over it.
    """
    width = width or height
    generator = np.random.default_rng(seed)
    colour = generator.uniform(0.0, 1.0, (count, 1, 1, 3))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    shapes = generator.uniform(0.0, 1.0, (count, 4, 4, 3))[:, rows][:, :, columns]
    noise = generator.uniform(0.0, 1.0, (count, height, width, 3))
    images = np.rint(255.0 * (0.6 * colour + 0.3 * shapes + 0.1 * noise))
    return np.ascontiguousarray(images, np.float32)


def patched_images(count, height, width=None, seed=0, side=4):
    """Images of side x side patches, each of its own colour under some noise, and their masks.

    Returns:
        Images `(count, height, width, 3)`, whole numbers of 0..255; masks `(count, height, width)`,
        the number of the channel that is brightest in each pixel's patch.
    """
    width = width or height
    generator = np.random.default_rng(seed)
    patches = generator.uniform(0.0, 1.0, (count, side, side, 3))
    rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
    noise = generator.uniform(0.0, 1.0, (count, height, width, 3))
    images = np.rint(255.0 * (0.9 * patches[:, rows][:, :, columns] + 0.1 * noise))
    masks = patches.argmax(-1)[:, rows][:, :, columns].astype(np.uint8)
    return np.ascontiguousarray(images, np.float32), np.ascontiguousarray(masks)


def object_images(count, height, width=None, seed=0):
    """Grey images with one to three coloured rectangles apart from each other, and their boxes.

    Returns:
        Images `(count, height, width, 3)`, whole numbers of 0..255; {"boxes": `(count, 3, 4)`,
        left, top, right, bottom in pixels, "labels": `(count, 3)`, the number of the brightest
        channel, or -1 for rows that are no boxes}.
    """
    width = width or height
    generator = np.random.default_rng(seed)
    images = np.empty((count, height, width, 3), np.float32)
    boxes, labels = np.zeros((count, 3, 4), np.float32), np.full((count, 3), -1, np.int64)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    for image, of_image, classes in zip(images, boxes, labels, strict=True):
        ground = generator.uniform(0.3, 0.6, (4, 4, 1))[rows][:, columns]
        image[:] = ground + generator.uniform(-0.05, 0.05, image.shape)
        is_taken = np.zeros((height, width), bool)
        for number in range(generator.integers(1, 4)):
            sides = generator.uniform(0.25, 0.6, 2) * (height, width)
            top, left = generator.uniform(0.0, 1.0, 2) * ((height, width) - sides)
            bottom, right = np.rint((top, left) + sides).astype(int)
            top, left = int(top), int(left)
            label = generator.integers(3)
            colour = generator.uniform(0.0, 0.3, 3)
            colour[label] = generator.uniform(0.7, 1.0)
            if not is_taken[top:bottom, left:right].any():
                is_taken[top:bottom, left:right] = True
                image[top:bottom, left:right] = colour
                of_image[number], classes[number] = (left, top, right, bottom), label
    return np.rint(255.0 * np.clip(images, 0.0, 1.0)), {"boxes": boxes, "labels": labels}


def _backbone(**arguments):
    return MobileViTBackbone(
        **{
            "stage_filters": (8, 8, 16, 16, 16),
            "expand_ratio": 2,
            "transformer_dims": (16, 16, 16),
            "num_layers": (1, 2, 1),
            "stem_filters": 8,
            **arguments,
        }
    )


def build_tiny(num_classes=3, class_names=None, preprocessing=None, **backbone):
    """A classifier of MobileViT's shape with a few channels and random norms."""
    return randomize(
        MobileViTImageClassifier(
            _backbone(**backbone),
            num_classes,
            class_names=class_names,
            preprocessing=preprocessing,
        )
    )


def load_tiny(activation="silu", **arguments):
    """A tiny classifier of three classes that has learned which colour an image is of."""
    return _trained(build_tiny(activation=activation, **arguments), TRAINED[activation])


def _trained(model, path):
    with np.load(path) as file:
        model.set_weights([file[str(i)].astype("float32") for i in range(len(model.weights))])
    return model


def build_tiny_segmenter(num_classes=3, class_names=None, preprocessing=None, **backbone):
    """A segmenter with a few channels and random norms."""
    return randomize(
        MobileViTImageSegmenter(
            _backbone(**{"output_stride": 16, **backbone}),
            num_classes,
            filters=8,
            class_names=class_names,
            preprocessing=preprocessing,
        )
    )


def load_tiny_segmenter(**arguments):
    """A tiny segmenter of three classes that has learned which channel is brightest where."""
    return _trained(build_tiny_segmenter(**arguments), TRAINED_SEGMENTER)


def load_tiny_segmenter_v2(**arguments):
    """The same on MobileViTv2."""
    return _trained(build_tiny_segmenter(**SEPARABLE, **arguments), TRAINED_SEGMENTER_V2)


def build_tiny_detector(
    num_classes=3, class_names=None, preprocessing=None, min_scale=0.1, max_scale=1.05, **backbone
):
    """A detector on a backbone with a few channels, and random norms."""
    return randomize(
        MobileViTObjectDetector(
            _backbone(**backbone),
            num_classes,
            min_scale,
            max_scale,
            class_names=class_names,
            preprocessing=preprocessing,
        )
    )


def load_tiny_detector(**arguments):
    """A tiny detector of three classes that has learned where coloured rectangles are."""
    return _trained(build_tiny_detector(**arguments), TRAINED_DETECTOR)
