import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilevit_keras.export.check_images import generated_images, open_check_images
from mobilevit_keras.models import Preprocessing

PREPROCESSING = Preprocessing(short_side=64, crop_size=64)


def test_photographs_are_the_default_and_repeat():
    images = open_check_images(None, 48, 64, PREPROCESSING)
    assert images.shape[1:] == (48, 64, 3)
    assert images.dtype == np.float32
    assert images.min() >= 0 and 200 < images.max() <= 255
    np.testing.assert_array_equal(images, open_check_images(None, 48, 64, PREPROCESSING))


def test_generated_images_span_the_range():
    images = generated_images(32, 40)
    assert images.shape == (8, 32, 40, 3)
    assert images.min() == 0 and images.max() == pytest.approx(255)


def test_folder_file_and_array(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("b.png", "a.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    for source, count in (
        (tmp_path, 2 + 8),
        (str(tmp_path / "a.png"), 1 + 8),
        (pixels[None].astype(np.float32), 1),
    ):
        images = open_check_images(source, 64, 64, PREPROCESSING)
        np.testing.assert_allclose(images[0], pixels, atol=1e-3)
        assert len(images) == count
    # A person's images may be grey; some are always coloured.
    np.testing.assert_array_equal(
        open_check_images(tmp_path, 64, 64, PREPROCESSING)[2:], generated_images(64, 64)
    )
    assert len(open_check_images(tmp_path, 64, 64, PREPROCESSING, count=9)) == 9


def test_unequal_sides_are_cropped_as_in_evaluation(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    preprocessing = Preprocessing(short_side=64, crop_size=64)
    np.testing.assert_allclose(
        open_check_images(tmp_path, 48, 80, preprocessing)[0], pixels[:, 8:88], atol=1e-3
    )


def test_images_are_stretched_where_the_model_sees_them_so(tmp_path):
    (tmp_path / "a").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    for number in range(20):
        for name in "ab":
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels + np.uint8(number)).save(path)
    preprocessing = Preprocessing(crop_size=32, resize="stretch")
    for source in (tmp_path, f"folder:{tmp_path}"):
        found = open_check_images(source, 48, 80, preprocessing)
        # Every image is one of those, whole.
        whole = [tf.image.resize(pixels + np.uint8(number), (48, 80)) for number in range(20)]
        for image in found[:5]:
            assert min(np.abs(image - each).max() for each in whole) < 1e-3


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="must hold images"):
        open_check_images(tmp_path, 64, 64, PREPROCESSING)
    with pytest.raises(ValueError, match="Images must be"):
        open_check_images(np.zeros((0, 64, 64, 3)), 64, 64, PREPROCESSING)
