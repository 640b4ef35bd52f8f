import numpy as np
import pytest
from PIL import Image

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


def test_bad_arguments(tmp_path):
    pipeline = MultiScaleDataset(NumberedImages(40), **ARGUMENTS)
    with pytest.raises(ValueError, match="num_batches=0"):
        preview(pipeline, tmp_path / "sheet.png", captions, 0)
    with pytest.raises(ValueError, match="known extension.*sheet.xyz"):
        preview(pipeline, tmp_path / "sheet.xyz", captions)
    assert not list(tmp_path.iterdir())
