"""The written file in the runtime that Android's tasks library is made of."""

import io
import zipfile

import numpy as np
import pytest

from mobilevit_keras.export import export_tflite, run_tflite
from mobilevit_keras.export.check_images import generated_images
from tests.tiny import build_tiny

NAMES = ("Äpfel", "Birnen", "Feigen")


@pytest.fixture(scope="module", params=["float32", "int8"])
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "model.tflite"
    images = generated_images(64, 64)
    if request.param == "float32":
        export_tflite(build_tiny(class_names=NAMES), path, 64, images=images)
    else:
        export_tflite(
            build_tiny(class_names=NAMES), path, 64, "int8", images, images, input_type="uint8"
        )
    return path


def test_mediapipe_classifies_with_the_file_alone(file):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(file)))
    pixels = np.rint(generated_images(64, 64, count=4)).astype(np.uint8)
    expected = run_tflite(file, pixels.astype(np.float32)).probabilities
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image, probabilities in zip(pixels, expected, strict=True):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            categories = classifier.classify(image).classifications[0].categories
            assert [category.category_name for category in categories] == [
                NAMES[index] for index in np.argsort(-probabilities)
            ]
            scores = {category.category_name: category.score for category in categories}
            np.testing.assert_allclose([scores[name] for name in NAMES], probabilities, atol=1e-3)


def test_labels_are_in_the_file(file):
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode().splitlines() == list(NAMES)
