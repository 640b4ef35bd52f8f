import shutil

import numpy as np
import pytest
from PIL import Image

from mobilevit_keras.data import preview as preview_module
from mobilevit_keras.data.multi_scale import MultiScaleDataset
from mobilevit_keras.data.preview import preview
from tests.data.images import NumberedImages

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
