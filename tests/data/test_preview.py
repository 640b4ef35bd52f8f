import shutil

import numpy as np
import pytest
from PIL import Image

from mobilevit_keras.data import preview as preview_module
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.preview import preview
from tests.data.images import NumberedImages, framed_source, painted_source

ARGUMENTS = {"sizes": (32, 64), "base_size": 64, "batch_size": 4}


def captions(label):
    """A line, or two for a mixed label."""
    return ["one"] if label.ndim == 0 else ["one", "two"]


@pytest.mark.parametrize("augmentation", ["basic", "advanced"])
def test_sheet_shows_each_batch_at_its_size(tmp_path, augmentation):
    source = NumberedImages(40)
    pipeline = MultiScaleDataset(source, **ARGUMENTS, augmentation=augmentation)
    path = tmp_path / "pictures" / "sheet.png"
    preview(pipeline, path, captions, num_batches=2, images_per_batch=3)
    sheet = np.asarray(Image.open(path))
    sizes = pipeline.steps(0).heights[:2]
    text = {"basic": 36, "advanced": 54}[augmentation]
    height = 8 + sum(size + text + 8 for size in sizes)
    assert sheet.shape == (height, 8 + 3 * (max(sizes) + 8), 3)
    if augmentation == "basic":
        ((images, labels),) = list(pipeline.epoch(0).take(1))
        top, size = 8 + 18, sizes[0]
        for index in range(3):
            left = 8 + index * (size + 8)
            assert (sheet[top : top + size, left : left + size] == int(labels[index])).all()


def test_masks_lie_over_the_images_in_their_colours(tmp_path):
    dataset = MultiScaleDataset(painted_source(), **ARGUMENTS, crop="short_side")
    path = tmp_path / "sheet.png"
    preview(dataset, path, lambda mask: [f"{mask.shape[0]} rows"], 1, images_per_batch=2)
    sheet = np.asarray(Image.open(path))
    ((images, masks),) = list(dataset.epoch(0).take(1))
    size = images.shape[1]
    for index in range(2):
        left = 8 + index * (size + 8)
        found = sheet[26 : 26 + size, left : left + size].astype(int)
        mask = masks[index].numpy()
        # PASCAL VOC's colours of the first classes, and of what has none.
        colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]])
        colour = np.where((mask == 255)[..., None], [224, 224, 192], colours[mask % 5])
        expected = (255 * images[index].numpy() + colour) / 2
        assert np.abs(found - expected).max() <= 1


def test_boxes_are_frames_with_names():
    image = np.full((60, 80, 3), 90, np.uint8)
    boxes = np.array([[10.2, 20.4, 40.1, 50.0], [0, 0, 80, 60], [0, 0, 0, 0]], np.float32)
    labels = np.array([0, 1, -1])
    drawn = preview_module.draw_boxes(image, boxes, labels, ("cat", "dog"))
    red, green = [128, 0, 0], [0, 128, 0]
    for colour, (left, top, right, bottom) in ((red, (10, 20, 39, 49)), (green, (0, 0, 79, 59))):
        assert np.all(drawn[top : bottom + 1, right] == colour)
        assert np.all(drawn[bottom, left : right + 1] == colour)
        assert np.all(drawn[top + 15 : bottom + 1, left] == colour)
    # Inside and outside of both frames, away from the names.
    assert np.all(drawn[36:48, 12:38] == 90)
    assert np.all(drawn[52:58, 2:78] == 90)
    white = np.all(drawn > 180, -1)
    assert white[20:36, 10:40].any() and white[:16, :40].any()
    other = preview_module.draw_boxes(image, boxes, labels, ("cat", "dog"), ["1", "2", "3"])
    assert np.any(other != drawn)
    assert np.all(image == 90)


def test_boxes_in_a_sheet(tmp_path):
    dataset = MultiScaleDataset(framed_source(), **ARGUMENTS, crop="sample")
    path = tmp_path / "sheet.png"
    preview(dataset, path, lambda target: [str(sorted(target))], 1, images_per_batch=1)
    sheet = np.asarray(Image.open(path))
    ((images, targets),) = list(dataset.epoch(0).take(1))
    size = images.shape[1]
    drawn = preview_module.draw_boxes(
        np.round(255 * images[0].numpy()).astype(np.uint8),
        targets["boxes"][0].numpy(),
        targets["labels"][0].numpy(),
        ("red", "blue"),
    )
    np.testing.assert_array_equal(sheet[26 : 26 + size, 8 : 8 + size], drawn)


def test_characters_that_no_font_has_are_escaped(monkeypatch):
    own = preview_module._own_font()
    monkeypatch.setattr(preview_module, "_system_fonts", lambda: ())
    for text in ("M\u00fcll", "\u0401\u0436", "caf\u00e9 1%"):
        font, shown = preview_module.font_for(text)
        assert (font.path, shown) == (own, text)
    assert preview_module.font_for("a\u732b")[1] == "a\\u732b"


def test_the_first_font_that_has_a_text_draws_it(monkeypatch, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    known = {"latin": set(range(128)), "chinese": {0x61, 0x732B}, "broken": set()}
    paths = {name: str(tmp_path / f"{name}.ttf") for name in known}
    real = preview_module._characters
    assert real(paths["broken"]) == frozenset()
    shutil.copy(preview_module._own_font(), paths["chinese"])
    monkeypatch.setattr(preview_module, "_system_fonts", lambda: tuple(sorted(paths.values())))
    by_path = {paths[name]: frozenset(characters) for name, characters in known.items()}
    monkeypatch.setattr(preview_module, "_characters", lambda path: by_path.get(path) or real(path))
    font, shown = preview_module.font_for("a\u732b")
    assert (font.path, shown) == (paths["chinese"], "a\u732b")


def test_bad_arguments(tmp_path):
    pipeline = MultiScaleDataset(NumberedImages(40), **ARGUMENTS)
    with pytest.raises(ValueError, match="num_batches=0"):
        preview(pipeline, tmp_path / "sheet.png", captions, 0)
    with pytest.raises(ValueError, match="known extension.*sheet.xyz"):
        preview(pipeline, tmp_path / "sheet.xyz", captions)
    assert not list(tmp_path.iterdir())
