"""Image files that the data tests share."""

from pathlib import Path

import pytest

from tests.data.images import encode, smooth_image

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos"


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Path]:
    """JPEG files: real photographs where the checkout has them, smooth stand-ins elsewhere."""
    found = sorted(PHOTOS.glob("*.JPEG"))[:6]
    if found:
        return found
    folder = tmp_path_factory.mktemp("photos")
    for index in range(6):
        image = smooth_image(index, 300 + 20 * index, 420 - 10 * index)
        (folder / f"{index}.jpg").write_bytes(encode(image, "JPEG", quality=92))
    return sorted(folder.iterdir())


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """Three classes of ten JPEG files each."""
    for index, name in enumerate(("cat", "dog", "emu")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            contents = encode(smooth_image(10 * index + number), "JPEG", quality=90)
            (tmp_path / "images" / name / f"{number}.jpg").write_bytes(contents)
    return tmp_path / "images"
