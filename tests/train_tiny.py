"""Writes the weights of `tests.tiny.load_tiny`: python -m tests.train_tiny

A random network answers to rounding more than to its image: int8 changes half of what tells images
apart, honest or not. These two have learned which colour an image is of, in a minute.
"""

import keras
import numpy as np

from tests.tiny import TRAINED, build_tiny, coloured_images, tell_images_apart


def main() -> None:
    for activation, path in TRAINED.items():
        keras.utils.set_random_seed(0)
        model = tell_images_apart(build_tiny(activation=activation))
        images = coloured_images(768, 64, seed=7) / 255.0
        labels = images.mean(axis=(1, 2)).argmax(axis=-1)
        model.compile(
            keras.optimizers.AdamW(3e-3, weight_decay=0.05),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2),
            metrics=["accuracy"],
        )
        model.fit(images, keras.utils.to_categorical(labels, 3), batch_size=32, epochs=12)
        weights = {str(i): w.astype(np.float16) for i, w in enumerate(model.get_weights())}
        np.savez_compressed(path, **weights)


if __name__ == "__main__":
    main()
