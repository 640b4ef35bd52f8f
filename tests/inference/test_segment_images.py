"""Image files in, masks of their own size out."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilevit_keras import segment_images
from mobilevit_keras.metrics import class_masks
from mobilevit_keras.palette import class_colours, overlay
from tests.tiny import build_tiny, build_tiny_segmenter, load_tiny_segmenter, patched_images

NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model():
    return load_tiny_segmenter(
        class_names=NAMES, preprocessing={"resize": "stretch", "crop_size": (64, 96)}
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Files of three sizes and what is in their patches."""
    folder, found = tmp_path_factory.mktemp("images"), []
    for index, size in enumerate(((120, 160), (64, 96), (200, 90))):
        (pixels,), (mask,) = patched_images(1, *size, seed=index)
        path = folder / f"{index}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        found.append((path, mask))
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_masks_are_of_the_images_own_size(model, images, batch_size):
    answers = segment_images(model, [path for path, _ in images], batch_size=batch_size)
    for answer, (path, truth) in zip(answers, images, strict=True):
        assert (answer.path, answer.mask.shape, answer.mask.dtype) == (path, truth.shape, np.uint8)
        assert np.mean(answer.mask == truth) > 0.7
        # Stretched to the model, whatever the aspect, and the logits back to the image.
        pixels = np.asarray(Image.open(path), np.float32) / 255
        stretched = tf.image.resize(pixels[None], (64, 96))
        expected = class_masks(np.asarray(model(stretched)), *truth.shape)[0]
        assert np.mean(answer.mask == expected) > 0.999
        shares = dict(answer.shares())
        assert sum(shares.values()) == pytest.approx(1.0)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
        for number, name in enumerate(NAMES):
            assert shares.get(name, 0.0) == pytest.approx(np.mean(answer.mask == number))
        assert answer.mask_file is None


def test_nothing_is_cut_off_whatever_the_preprocessing_says(images):
    cropping = load_tiny_segmenter(preprocessing={"short_side": 96, "crop_size": 64})
    path, truth = images[0]
    (answer,) = segment_images(cropping, [path])
    stretched = tf.image.resize(np.asarray(Image.open(path), np.float32)[None] / 255, (64, 64))
    expected = class_masks(np.asarray(cropping(stretched)), *truth.shape)[0]
    assert np.mean(answer.mask == expected) > 0.999
    assert {name for name, _ in answer.shares()} <= {"0", "1", "2"}


def test_pictures(model, images, tmp_path):
    paths = [path for path, _ in images]
    for _ in range(2):
        # A second time they are replaced.
        answers = segment_images(model, paths, tmp_path / "masks")
    names = {f"{n}.{kind}" for n in range(3) for kind in ("mask.png", "overlay.jpg")}
    assert {file.name for file in (tmp_path / "masks").iterdir()} == names
    for answer in answers:
        with Image.open(answer.mask_file) as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(np.asarray(picture), answer.mask)
            colours = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(colours, class_colours()[answer.mask])
        with Image.open(answer.overlay_file) as picture:
            drawn = np.asarray(picture, np.float32)
        expected = overlay(np.asarray(Image.open(answer.path)), answer.mask)
        assert np.abs(drawn - expected).mean() < 12


def test_a_turned_photograph_has_an_upright_mask(model, images, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(images[0][0]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    (answer,) = segment_images(model, [tmp_path / "turned.jpg"], tmp_path / "out")
    assert answer.mask.shape == (160, 120)
    with Image.open(answer.overlay_file) as picture:
        assert picture.size == (120, 160) and not picture.getexif()


def test_images_of_one_name_are_numbered_and_none_is_replaced(model, images, tmp_path):
    source = images[1][0].read_bytes()
    names = ("a/x.png", "b/x.png", "x-2.png", "c/x.jpeg")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(source)
    answers = segment_images(model, [tmp_path / name for name in names], tmp_path / "out")
    written = [answer.mask_file.name for answer in answers]
    assert written == ["x.mask.png", "x-2.mask.png", "x-2-2.mask.png", "x-3.mask.png"]
    # A mask of before, taken for an image.
    paths = [tmp_path / "a/x.png", tmp_path / "a/x.mask.png"]
    paths[1].write_bytes(source)
    with pytest.raises(ValueError, match="must not replace .* Received: .*x.mask.png as both"):
        segment_images(model, paths, tmp_path / "b/../a")
    assert paths[1].read_bytes() == source and not (tmp_path / "a/x.overlay.jpg").exists()


def test_unreadable_files_are_named_and_left_out(model, images, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    paths = [tmp_path / "absent.jpg", images[0][0], tmp_path / "text.jpg", images[1][0]]
    bad = []
    answers = segment_images(
        model, paths, tmp_path / "out", 1, lambda path, error: bad.append((path, str(error)))
    )
    assert [answer.path for answer in answers] == [paths[1], paths[3]]
    assert [path for path, _ in bad] == [paths[0], paths[2]]
    assert "text.jpg" in bad[1][1] and "No such file" in bad[0][1]
    assert len(list((tmp_path / "out").iterdir())) == 4
    with pytest.raises(ValueError, match="image is needed. Received: .*text.jpg"):
        segment_images(model, paths[2:])
    with pytest.raises(FileNotFoundError, match="absent.jpg"):
        segment_images(model, paths)


def test_mistakes(model, images, tmp_path):
    with pytest.raises(ValueError, match="A segmenter is needed. Received: a MobileViTImageClass"):
        segment_images(build_tiny(), [images[0][0]])
    with pytest.raises(ValueError, match="`batch_size` must be positive. Received: 0"):
        segment_images(model, [images[0][0]], batch_size=0)
    with pytest.raises(ValueError, match="256 classes at most. Received: 300"):
        segment_images(build_tiny_segmenter(300), [images[0][0]])
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        segment_images(model, [images[0][0]], tmp_path / "file")
    assert segment_images(model, []) == []
