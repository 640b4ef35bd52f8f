"""A picture of what a model answers to a few images."""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from mobilevit_keras.data import SkippedImages, Source, clear_errors
from mobilevit_keras.data.evaluation import prepared_images
from mobilevit_keras.data.skipped import none_readable
from mobilevit_keras.data.targets import as_y
from mobilevit_keras.evaluation.accuracy import check_class_names
from mobilevit_keras.evaluation.predictors import Predictor


def draw_examples(
    predictor: Predictor,
    source: Source,
    picture: str | Path,
    split: str = "validation",
    count: int = 8,
) -> None:
    """Draws some of a split's images with what is true of them and what a model answers.

    Args:
        predictor: The model.
        source: Where the images come from.
        picture: The file to write; its extension says the format.
        split: "validation" or "train".
        count: How many images; always the same ones, drawn from the whole split.

    Raises:
        ValueError: If the task draws nothing, model and source have different classes, or no image
            can be read.
        OSError: If the picture cannot be written.
    """
    check_class_names(predictor, source)
    task = predictor.task
    skipped = SkippedImages()
    wanted = dataclasses.replace(predictor.preprocessing, crop_size=predictor.size)
    records = source.records(split, tf.constant([0, 0], tf.int64), tf.constant(0, tf.int64))
    examples = prepared_images(source, records, wanted, skipped, task.whole_targets).take(count)
    images, targets = [], []
    with clear_errors(source, skipped):
        for image, target in examples.as_numpy_iterator():
            images.append(image)
            targets.append(target if task.whole_targets else as_y(target))
    if not images:
        raise none_readable(source, split, skipped)
    results = list(predictor.run(image[None] for image in images))
    outputs = {
        name: np.concatenate([result.outputs[name] for result in results])
        for name in results[0].outputs
    }
    shown = [np.rint(255.0 * image).astype(np.uint8) for image in images]
    task.draw_examples(shown, outputs, targets, source.class_names, picture)
