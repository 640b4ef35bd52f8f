"""Image files in, class names out, through the preprocessing that the model stores."""

import numpy as np
import pytest
from PIL import Image

from mobilevit_keras.inference import predict_images
from mobilevit_keras.models import MobileViTImageClassifier, Preprocessing


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list:
    """Three grey images, which stay what they are however they are resized and cropped."""
    folder = tmp_path_factory.mktemp("images")
    for index, (size, shade) in enumerate((((60, 40), 0), ((33, 99), 128), ((40, 40), 255))):
        Image.new("RGB", size, (shade,) * 3).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def classifier(**arguments) -> MobileViTImageClassifier:
    model = MobileViTImageClassifier.from_variant(
        "mobilevit_xxs", num_classes=3, preprocessing=Preprocessing(36, 32), **arguments
    )
    # Larger logits, so that the classes differ.
    kernel = {weight.path: weight for weight in model.weights}["head/classifier/kernel"]
    kernel.assign(kernel * 200)
    return model


def softmax(logits) -> np.ndarray:
    exponents = np.exp(logits - np.max(logits, -1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_names_and_probabilities(images, batch_size):
    names = ("cat", "dog", "emu")
    model = classifier(class_names=names)
    shades = np.array([0, 128, 255], "float32")[:, None, None, None] / 255
    pixels = np.broadcast_to(shades, (3, 32, 32, 3))
    expected = softmax(np.asarray(model(pixels)))
    answers = predict_images(model, images, batch_size)
    assert [path for path, _ in answers] == images
    for (_, pairs), row in zip(answers, expected, strict=True):
        assert [name for name, _ in pairs] == [names[index] for index in np.argsort(-row)]
        np.testing.assert_allclose([value for _, value in pairs], np.sort(row)[::-1], rtol=1e-4)
        assert sum(value for _, value in pairs) == pytest.approx(1)


def test_stored_preprocessing_is_used(tmp_path):
    # A frame that the centre crop takes away, but for a model that keeps more of the image.
    pixels = np.full((40, 40, 3), 255, np.uint8)
    pixels[4:-4, 4:-4] = 90
    Image.fromarray(pixels).save(tmp_path / "framed.png")
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "plain.png")
    cropping = classifier()
    kept = MobileViTImageClassifier(cropping.backbone, 3, preprocessing=Preprocessing(40, 40))
    kept.set_weights(cropping.get_weights())
    cropping = MobileViTImageClassifier(cropping.backbone, 3, preprocessing=Preprocessing(40, 32))
    cropping.set_weights(kept.get_weights())
    paths = [tmp_path / "framed.png", tmp_path / "plain.png"]
    (_, framed), (_, plain) = predict_images(cropping, paths)
    assert dict(framed) == pytest.approx(dict(plain))
    (_, framed), (_, plain) = predict_images(kept, paths)
    assert dict(framed) != pytest.approx(dict(plain))


def test_classes_without_names_are_numbers_and_top_is_kept(images):
    for _, pairs in predict_images(classifier(), images, top=2):
        assert len(pairs) == 2
        assert {name for name, _ in pairs} < {"0", "1", "2"}
        assert pairs[0][1] >= pairs[1][1]


def test_no_images():
    assert predict_images(classifier(), []) == []


def test_unreadable_files_are_named_and_left_out(images, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    paths = [tmp_path / "absent.jpg", images[0], tmp_path / "text.jpg", images[1]]
    model, bad = classifier(), []
    answers = predict_images(
        model, paths, batch_size=1, unreadable=lambda path, error: bad.append((path, str(error)))
    )
    assert answers == predict_images(model, images[:2], batch_size=1)
    assert [path for path, _ in bad] == [paths[0], paths[2]]
    assert "text.jpg" in bad[1][1] and "No such file" in bad[0][1]


def test_mistakes(images, tmp_path):
    model = classifier()
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match="image is needed. Received: .*text.jpg"):
        predict_images(model, [*images, tmp_path / "text.jpg"])
    with pytest.raises(FileNotFoundError, match="absent.jpg"):
        predict_images(model, [tmp_path / "absent.jpg"])
    for arguments in ({"batch_size": 0}, {"top": 0}):
        with pytest.raises(ValueError, match="`batch_size` and `top` must be positive"):
            predict_images(model, images, **arguments)
