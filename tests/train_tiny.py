"""Writes the weights of what `tests.tiny` loads, such as `load_tiny_segmenter`:

    python -m tests.train_tiny [NAME]

A random network answers to rounding more than to its image: int8 changes half of what tells images
apart, honest or not. These have learned which colour an image or a part of it is of, each in a
minute or two.
"""

import sys

import keras
import numpy as np

from tests.tiny import (
    SEPARABLE,
    TRAINED,
    TRAINED_DETECTOR,
    TRAINED_SEGMENTER,
    TRAINED_SEGMENTER_V2,
    build_tiny,
    build_tiny_detector,
    build_tiny_segmenter,
    coloured_images,
    object_images,
    patched_images,
    tell_images_apart,
)


def train_classifier(activation: str) -> keras.Model:
    model = tell_images_apart(build_tiny(activation=activation))
    images = coloured_images(768, 64, seed=7) / 255.0
    labels = images.mean(axis=(1, 2)).argmax(axis=-1)
    model.compile(
        keras.optimizers.AdamW(3e-3, weight_decay=0.05),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2),
        metrics=["accuracy"],
    )
    model.fit(images, keras.utils.to_categorical(labels, 3), batch_size=32, epochs=12)
    return model


def train_segmenter(**backbone) -> keras.Model:
    model = build_tiny_segmenter(**backbone)
    images, masks = patched_images(768, 64, seed=7)
    model.compile(keras.optimizers.AdamW(3e-3, weight_decay=0.05))
    model.fit(images / 255.0, masks, batch_size=16, epochs=16)
    return model


def train_detector() -> keras.Model:
    model = build_tiny_detector()
    size, epochs = (64, 128), 20
    images, boxes = object_images(3072, *size, seed=7)
    targets = {name: np.asarray(values) for name, values in model.targets(boxes, *size).items()}
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * 192)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.05))
    model.fit(images / 255.0, targets, batch_size=16, epochs=epochs, verbose=2)
    return model


def write(model: keras.Model, path) -> None:
    weights = {str(i): w.astype(np.float16) for i, w in enumerate(model.get_weights())}
    np.savez_compressed(path, **weights)


def main(names: list[str]) -> None:
    for activation, path in TRAINED.items():
        if not names or activation in names:
            keras.utils.set_random_seed(0)
            write(train_classifier(activation), path)
    if not names or "segmenter" in names:
        keras.utils.set_random_seed(0)
        write(train_segmenter(), TRAINED_SEGMENTER)
    if not names or "segmenter_v2" in names:
        keras.utils.set_random_seed(0)
        write(train_segmenter(**SEPARABLE), TRAINED_SEGMENTER_V2)
    if not names or "detector" in names:
        keras.utils.set_random_seed(0)
        write(train_detector(), TRAINED_DETECTOR)


if __name__ == "__main__":
    main(sys.argv[1:])
