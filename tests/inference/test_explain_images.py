"""Image files and pixels in, maps of where an answer comes from out."""

import numpy as np
import pytest
from PIL import Image

import mobilevit_keras as mv
from mobilevit_keras.palette import heat_overlay
from tests.tiny import (
    build_tiny,
    build_tiny_segmenter,
    coloured_images,
    load_tiny,
    tell_images_apart,
)

NAMES = ("red", "green", "blue")
SEPARABLE = {"attention": "separable", "num_heads": 1, "use_fusion": False}


@pytest.fixture(scope="module")
def model():
    return load_tiny(class_names=NAMES, preprocessing={"short_side": 144, "crop_size": 128})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three coloured images of three sizes."""
    folder, paths = tmp_path_factory.mktemp("images"), []
    for index, size in enumerate(((120, 160), (144, 144), (200, 90))):
        (pixels,) = coloured_images(1, *size, seed=index).astype(np.uint8)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def softmax(logits):
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


@pytest.mark.parametrize("backbone", [{}, SEPARABLE], ids=["v1", "v2"])
@pytest.mark.parametrize("size", [(64, 64), (80, 112)])
def test_the_mean_of_the_scores_are_the_logits(backbone, size):
    """The classifier is linear behind the mean: nothing is estimated."""
    prepared = {"crop_size": size, "resize": "stretch"}
    model = tell_images_apart(build_tiny(5, preprocessing=prepared, **backbone), 3.0)
    images = coloured_images(6, *size, seed=3)
    logits = np.asarray(model(images / 255.0))
    assert logits.std(axis=0).min() > 0.2
    answers = mv.explain_images(model, list(images), attention=False, batch_size=4)
    for answer, row in zip(answers, logits, strict=True):
        assert answer.heat_map.shape == (*np.asarray(model.backbone(images[:1])).shape[1:3], 5)
        np.testing.assert_allclose(answer.heat_map.mean(axis=(0, 1)), row, atol=1e-4)
        assert answer.heat_map.std(axis=(0, 1)).min() > 0.1
        np.testing.assert_allclose(answer.probabilities, softmax(row), atol=1e-4)
        assert answer.attention == {} and answer.path is None


def test_each_score_is_that_of_its_own_features(model):
    (image,) = coloured_images(1, 128, seed=5)
    features = model.head.expand(model.backbone(image[None] / 255.0), training=False)
    kernel, bias = (
        np.asarray(w) for w in (model.head.classifier.kernel, model.head.classifier.bias)
    )
    expected = np.einsum("hwc,ck->hwk", np.asarray(features[0]), kernel[0, 0]) + bias
    found = np.asarray(model.with_heat_map(image[None] / 255.0)["heat_map"][0])
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_it_shows_where_the_colour_is(model, corner):
    """A quarter of a green image is red: there is where red comes from, in the image's pixels."""
    pixels = np.full((180, 240, 3), (60, 200, 60), np.uint8)
    (top, left), (height, width) = (90 * corner[0], 120 * corner[1]), (90, 120)
    rows, columns = slice(top, top + height), slice(left, left + width)
    pixels[rows, columns] = (220, 40, 40)
    (answer,) = mv.explain_images(model, pixels, class_name="red")
    heat = answer.heat()
    assert heat.shape == (180, 240) and np.nanmax(heat) <= 1.0
    is_red = np.zeros((180, 240), bool)
    is_red[rows, columns] = True
    assert np.nanmean(heat[is_red]) > 2.0 * np.nanmean(heat[~is_red])
    # 144 of the shorter side's 180 pixels become the crop's 128: the window is 160 x 160.
    known = np.zeros((180, 240), bool)
    known[10:170, 40:200] = True
    np.testing.assert_array_equal(~np.isnan(heat), known)


def test_attention_is_found_where_it_is_asked_for(model, files):
    answers = mv.explain_images(model, files)
    for answer, path in zip(answers, files, strict=True):
        assert answer.path == path and answer.pictures == ()
        sides = {block: part.shape for block, part in answer.attention.items()}
        assert sides == {"P3": (16, 16), "P4": (8, 8), "P5": (4, 4)}
        for block, part in answer.attention.items():
            assert part.sum() == pytest.approx(1.0, abs=1e-5) and part.min() > 0.0
            laid = answer.attention_of(block)
            assert laid.shape == answer.size and np.nanmin(laid) > 0.0
    # Another batch, the same answers.
    for one, other in zip(answers, mv.explain_images(model, files, batch_size=2), strict=True):
        np.testing.assert_allclose(one.heat_map, other.heat_map, atol=1e-4)
        np.testing.assert_allclose(one.attention["P4"], other.attention["P4"], atol=1e-6)


def test_pictures(model, files, tmp_path):
    for _ in range(2):
        # A second time they are replaced.
        answers = mv.explain_images(model, files, tmp_path / "heat")
    endings = ("heat", "P3", "P4", "P5")
    names = {f"{number}.{ending}.jpg" for number in range(3) for ending in endings}
    assert {file.name for file in (tmp_path / "heat").iterdir()} == names
    for answer in answers:
        pixels = np.asarray(Image.open(answer.path))
        heats = (answer.heat(), *map(answer.attention_of, answer.attention))
        for file, heat in zip(answer.pictures, heats, strict=True):
            with Image.open(file) as picture:
                drawn = np.asarray(picture, np.float32)
            assert np.abs(drawn - heat_overlay(pixels, heat)).mean() < 12
    mv.explain_images(model, [pixels, 1.0 * pixels], tmp_path / "pixels", attention=False)
    written = sorted(file.name for file in (tmp_path / "pixels").iterdir())
    assert written == ["1.heat.jpg", "2.heat.jpg"]


def test_no_image_is_replaced_and_unreadable_ones_are_named(model, files, tmp_path):
    source = files[0].read_bytes()
    paths = [tmp_path / "a.png", tmp_path / "a.heat.jpg"]
    for path in paths:
        path.write_bytes(source)
    with pytest.raises(ValueError, match="must not replace .* Received: .*a.heat.jpg as both"):
        mv.explain_images(model, paths, tmp_path)
    assert paths[1].read_bytes() == source and len(list(tmp_path.iterdir())) == 2
    (tmp_path / "text.jpg").write_text("no image")
    bad = []
    answers = mv.explain_images(
        model,
        [tmp_path / "text.jpg", files[0]],
        tmp_path / "out",
        attention=False,
        unreadable=lambda path, error: bad.append(path),
    )
    assert [answer.path for answer in answers] == [files[0]] and bad == [tmp_path / "text.jpg"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["0.heat.jpg"]
    with pytest.raises(ValueError, match="image is needed. Received: .*text.jpg"):
        mv.explain_images(model, tmp_path / "text.jpg")


def test_mistakes(model, files):
    with pytest.raises(ValueError, match="A classifier is needed. Received: a MobileViTImageSeg"):
        mv.explain_images(build_tiny_segmenter(), files)
    with pytest.raises(ValueError, match="`batch_size` must be positive. Received: 0"):
        mv.explain_images(model, files, batch_size=0)
    with pytest.raises(ValueError, match="one of the model's: red, green, blue. Received: 'cat'"):
        mv.explain_images(model, files, class_name="cat")
    with pytest.raises(ValueError, match="Pixels must be from 0 to 255, not divided already"):
        mv.explain_images(model, np.full((64, 64, 3), 0.5))
    assert mv.explain_images(model, []) == []
