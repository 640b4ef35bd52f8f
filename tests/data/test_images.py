import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilevit_keras.data import preprocess
from mobilevit_keras.data.images import evaluation_transform
from tests.data.images import encode, smooth_image

SIZE = {"short_side": 48, "crop_size": 40}


def test_files_and_pixels_are_prepared_alike(tmp_path):
    images = [smooth_image(0, 60, 90), smooth_image(1, 91, 61)]
    contents = [encode(image, "PNG") for image in images]
    paths = [tmp_path / "0.png", str(tmp_path / "1.png")]
    for path, each in zip(paths, contents, strict=True):
        with open(path, "wb") as file:
            file.write(each)
    expected = np.stack([evaluation_transform(each, **SIZE) for each in contents])
    floats = [image.astype(np.float32) for image in images]
    for given in (paths, images, tuple(images), floats, [tf.constant(image) for image in images]):
        np.testing.assert_array_equal(preprocess(given, **SIZE), expected)
    for given in (paths[0], images[0], images[0][None], tf.constant(images[0])):
        np.testing.assert_array_equal(preprocess(given, **SIZE), expected[:1])
    image = Image.fromarray(images[0])
    np.testing.assert_array_equal(preprocess(image, **SIZE), preprocess([image], **SIZE))
    batch = np.stack([images[0], images[0][::-1]])
    assert preprocess(batch, 48, (40, 44), "bicubic").shape == (2, 40, 44, 3)
    assert preprocess([], **SIZE).shape == (0, 40, 40, 3)


def test_the_whole_image_is_stretched(tmp_path):
    images = [smooth_image(0, 60, 90), smooth_image(1, 91, 61)]
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(encode(image, "PNG"))
    for interpolation in ("bilinear", "bicubic"):
        resized = [tf.image.resize(image, (40, 44), interpolation) / 255 for image in images]
        expected = np.clip(np.stack(resized), 0, 1)
        for given in (images, paths):
            # The short side, less than the crop's, has no part in it.
            found = preprocess(given, 8, (40, 44), interpolation, "stretch")
            np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="`resize` must be one of .* Received: 'squash'"):
        preprocess(images, 48, 40, resize="squash")


def test_black_and_nearly_black_images():
    assert preprocess(np.zeros((50, 50, 3), np.float32), **SIZE).max() == 0
    np.testing.assert_allclose(preprocess(np.ones((50, 50, 3), np.uint8), **SIZE), 1 / 255)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ones((50, 50, 3), np.float32), "not divided already. Received: floats from 1.0 to 1.0"),
        ([np.full((50, 50, 3), 0.5), np.zeros((9, 9, 3))], "floats from 0.0 to 0.5"),
        (np.full((50, 50, 3), 256), "from 0 to 255. Received: 256 to 256"),
        (np.full((50, 50, 3), -1.0), "from 0 to 255. Received: -1.0 to -1.0"),
        (np.full((50, 50, 3), np.nan), "from 0 to 255. Received: nan"),
        (np.zeros((50, 50, 4), np.uint8), r"\(H, W, 3\) each.*Received: \(50, 50, 4\)"),
        (np.zeros((50, 50), np.uint8), r"Received: \(50,\)"),
        ([np.zeros((0, 9, 3), np.uint8)], r"Received: \(0, 9, 3\)"),
    ],
)
def test_other_pixels_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        preprocess(images, **SIZE)
