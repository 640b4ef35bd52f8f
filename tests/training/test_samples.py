from pathlib import Path

from PIL import Image

from mobilevit_keras.data import open_source
from mobilevit_keras.training.samples import write_samples
from tests.data.sources.files import names
from tests.objects import write_voc


def test_what_cannot_be_read_is_no_sample(tmp_path):
    write_voc(tmp_path / "objects", 24)
    source = open_source(f"voc:{tmp_path}/objects")
    missing, damaged, *others = map(Path, names(source, "validation"))
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:100])
    samples = write_samples(source, tmp_path / "samples")
    assert [path.name for path in samples] == [f"{k:02d}.jpg" for k in range(len(others))]
    assert {path.read_bytes() for path in samples} == {path.read_bytes() for path in others}
    for path in samples:
        Image.open(path).load()
