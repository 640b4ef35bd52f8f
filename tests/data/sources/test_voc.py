import shutil

import numpy as np
import pytest

from mobilevit_keras.data import open_source
from mobilevit_keras.data.sources.voc import Voc
from tests.data.sources.files import names, read, record_of, train_on, write_image

FIELDS = ("boxes", "labels", "ignored")


def xml(*objects, size=(36, 24), name="x.jpg"):
    """An annotation; of each object its name, left, top, right, bottom and whether difficult."""
    width, height = size
    text = f"<annotation><filename>{name}</filename>"
    if size != (None, None):
        text += f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    for kind, *box, difficult in objects:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        text += (
            # A part has a box too, which is not the object's.
            "<object><part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax>"
            f"<ymax>3</ymax></bndbox></part><name>{kind}</name>"
            f"<difficult>{difficult}</difficult><bndbox>{inner}</bndbox></object>"
        )
    return text + "</annotation>"


def write_list(root, name, lines):
    path = root / "ImageSets" / "Main" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(str, lines)) + "\n")


def annotate(root, name, text):
    path = root / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def voc(tmp_path):
    """Nine images: a box in each, and as many more as its number says, modulo three."""
    root = tmp_path / "VOC2007"
    for number in range(9):
        write_image(root / "JPEGImages" / f"{number}.jpg", number)
        more = [("cat", 10, 5, 20, 12.5, int(k > 0)) for k in range(number % 3)]
        annotate(root, number, xml(("dog", 1, 1, 36 - number, 24, 0), *more))
    write_list(root, "train", range(6))
    write_list(root, "val", range(6, 9))
    return root


def objects(source, split="train"):
    """The objects of each image by the image's name, without what fills up."""
    found = {}
    for example in source.examples(split).as_numpy_iterator():
        name = example["name"].decode().split("/")[-1].split(".")[0]
        real = example["labels"] >= 0
        found[name] = {field: example[field][real].tolist() for field in source.fields}
    return found


def test_boxes_begin_at_the_edge_of_their_first_pixel(voc):
    source = open_source(f"voc:{voc}")
    assert source.fields == ("boxes", "labels")
    assert source.class_names == ("cat", "dog")
    assert source.left_out == ""
    train, validation = objects(source), objects(source, "validation")
    assert list(train) == list("012345")
    assert list(validation) == list("678")
    assert train["0"] == {"boxes": [[0, 0, 36, 24]], "labels": [1]}
    assert train["2"] == {
        "boxes": [[0, 0, 34, 24], [9, 4, 20, 12.5], [9, 4, 20, 12.5]],
        "labels": [1, 0, 0],
    }
    targets, skipped = read(source)
    assert skipped.count == 0
    assert all(y["boxes"].shape == (1, 3, 4) for y in targets)
    np.testing.assert_array_equal(targets[2]["boxes"][0], train["2"]["boxes"])


def test_difficult_objects_are_trained_on_and_told_apart(voc):
    source = open_source(f"voc:{voc}", fields=FIELDS)
    for split, name in (("train", "2"), ("validation", "8")):
        assert objects(source, split)[name]["ignored"] == [0, 0, 1]
        assert len(objects(source, split)[name]["boxes"]) == 3


def test_the_order_is_one_for_images_and_boxes(voc):
    source = open_source(f"voc:{voc}")
    stored = {e["name"]: e for e in source.examples("train").as_numpy_iterator()}
    shuffled = list(source.examples("train", shuffle_seed=3, start=1).as_numpy_iterator())
    assert len(shuffled) == 5
    assert [e["name"] for e in shuffled] != list(stored)[1:]
    for example in shuffled:
        for key, value in stored[example["name"]].items():
            np.testing.assert_array_equal(example[key], value)
    with pytest.raises(ValueError, match="`split` must be one of"):
        source.examples("test")


def test_training_takes_them(voc):
    batches, skipped = train_on(open_source(f"voc:{voc}"), last_batch="fill")
    assert skipped.count == 0
    for images, targets in batches:
        assert targets["boxes"].shape == (len(images), 3, 4)
        assert (targets["labels"].numpy()[:, 0] >= 0).all()


def test_images_without_objects_stay(voc):
    annotate(voc, 1, xml())
    assert objects(open_source(f"voc:{voc}"))["1"] == {"boxes": [], "labels": []}


def test_boxes_are_clipped_or_left_out(voc):
    annotate(
        voc,
        0,
        xml(
            ("dog", -5, 3, 50, 100, 0),
            ("dog", 7, 7, 7, 9, 0),
            ("dog", 9, 7, 8, 9, 0),
            ("dog", 40, 3, 50, 10, 0),
            ("dog", "nan", 3, 5, 10, 0),
            ("dog", "", 3, 5, 10, 0),
            ("dog", "left", 3, 5, 10, 0),
            ("", 1, 1, 5, 10, 0),
            ("dog", 1, 1, 2, 2, 0),
        ),
    )
    annotate(voc, 1, "<annotation><object><name>dog</name></object></annotation>")
    source = open_source(f"voc:{voc}")
    assert objects(source)["0"]["boxes"] == [[0, 2, 36, 24], [0, 0, 2, 2]]
    assert objects(source)["1"]["boxes"] == []
    assert source.left_out == (
        "8 boxes left out: 4 that are not four numbers, such as 0: 'dog' nan 3 5 10; "
        "2 without area, such as 0: 'dog' 7 7 7 9; 1 outside of the image, 0: 'dog' 40 3 50 10; "
        "1 of no known class, 0: '' 1 1 5 10"
    )


def test_class_names_of_ones_own(voc):
    (voc / "classes.txt").write_text("dog\nbird\n")
    source = open_source(f"voc:{voc}")
    assert source.class_names == ("dog", "bird")
    assert objects(source)["2"]["labels"] == [0]
    # Of six numbers to train on 1, 2, 4 and 5 have one or two cats, of three to validate 7 and 8.
    assert source.left_out.startswith(
        "9 boxes left out: 9 of no known class, such as 1: 'cat' 10 5"
    )


def test_one_class_is_enough(voc):
    (voc / "classes.txt").write_text("dog\n")
    assert open_source(f"voc:{voc}").class_names == ("dog",)
    (voc / "classes.txt").write_text("bird\n")
    with pytest.raises(ValueError, match=r"boxes are needed. Received: no box \(18 boxes left out"):
        open_source(f"voc:{voc}")


def test_sizes_that_are_not_told_are_looked_up(voc):
    annotate(voc, 0, xml(("dog", 20, 1, 100, 10, 0), size=(None, None)))
    annotate(voc, 1, xml(("dog", 20, 1, 100, 10, 0), size=(0, 0)))
    annotate(voc, 2, xml(("dog", 20, 1, 100, 10, 0), size=("wide", "high")))
    found = objects(open_source(f"voc:{voc}"))
    assert [found[name]["boxes"] for name in "012"] == [[[19, 0, 36, 10]]] * 3


def test_annotations_that_cannot_be_used(voc):
    (voc / "Annotations" / "0.xml").unlink()
    (voc / "Annotations" / "1.xml").write_text(xml(("dog", 1, 1, 9, 9, 0))[:-30])
    (voc / "Annotations" / "2.xml").write_bytes(b"")
    annotate(voc, 3, xml(("dog", 1, 1, 9, 9, 0), size=(24, 36)))
    (voc / "JPEGImages" / "4.jpg").unlink()
    source = open_source(f"voc:{voc}")
    # All are known, and named when it is their turn.
    assert source.num_examples("train") == 6
    _, skipped = read(source)
    _, trained = train_on(source)
    images = voc / "JPEGImages"
    expected = {
        "0": f"there is no annotation {voc}/Annotations/0.xml",
        "1": f"its annotation {voc}/Annotations/1.xml cannot be read: ",
        "2": f"its annotation {voc}/Annotations/2.xml cannot be read: no element found",
        "3": "its boxes are of an image of 24 x 36 pixels, and it has 36 x 24",
        "4": "there is no such file",
    }
    assert set(skipped.names) == set(trained.names) == {str(images / f"{k}.jpg") for k in expected}
    for key, why in expected.items():
        assert source.why_unreadable(record_of(images / f"{key}.jpg")).startswith(why)
        assert f"{key}.jpg ({why}" in str(skipped)
    assert source.why_unreadable(record_of(images / "5.jpg")) == ""
    with pytest.raises(ValueError, match=r"must be readable. Received: .*jpg \(.+\)"):
        train_on(source, strict=True)
    (images / "5.jpg").write_bytes(b"damaged")
    assert source.why_unreadable(record_of(images / "5.jpg")) == ""


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("<html><body>404</body></html>", "html"),
        (xml(("dog", 1, 1, 9, 9, 0)).replace("<annotation", "<annotation xmlns='a'"), "{a}annot"),
    ],
)
def test_other_xml_is_no_image_without_objects(voc, text, tag):
    annotate(voc, 1, text)
    source = open_source(f"voc:{voc}")
    why = f"its annotation {voc}/Annotations/1.xml is none: <{tag}"
    assert source.why_unreadable(record_of(voc / "JPEGImages" / "1.jpg")).startswith(why)
    _, skipped = read(source)
    assert skipped.count == 1


def test_files_without_a_counterpart_are_counted(voc):
    shutil.rmtree(voc / "ImageSets")
    (voc / "Annotations" / "3.xml").unlink()
    (voc / "JPEGImages" / "4.jpg").unlink()
    source = open_source(f"voc:{voc}")
    assert source.num_examples("train") + source.num_examples("validation") == 7
    assert source.left_out == (
        "2 files left out: 1 of Annotations without an image, Annotations/4.xml; "
        "1 image(s) without a file in Annotations, JPEGImages/3.jpg"
    )
    more = Voc(voc, validation_fraction=0.9)
    assert set(names(source, "validation")) < set(names(more, "validation"))


def test_an_upright_image_is_what_boxes_are_of(voc):
    """An image whose EXIF data turn it: the size told is that of the picture one sees."""
    from PIL import Image

    path = voc / "JPEGImages" / "0.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)
    annotate(voc, 0, xml(("dog", 1, 1, 24, 36, 0), size=(24, 36)))
    source = open_source(f"voc:{voc}")
    assert objects(source)["0"]["boxes"] == [[0, 0, 24, 36]]
    annotate(voc, 0, xml(("dog", 1, 1, 24, 36, 0), size=(None, None)))
    assert objects(open_source(f"voc:{voc}"))["0"]["boxes"] == [[0, 0, 24, 36]]
    annotate(voc, 0, xml(("dog", 1, 1, 24, 24, 0)))
    source = open_source(f"voc:{voc}")
    assert "it has 24 x 36" in source.why_unreadable(record_of(path))


def test_bad_folders(voc, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="such as VOC2012 is needed. Received: voc:.*absent"
    ):
        open_source(f"voc:{tmp_path}/absent")
    (voc / "Annotations").rename(voc / "annotations-2")
    with pytest.raises(FileNotFoundError, match="JPEGImages and Annotations is needed"):
        open_source(f"voc:{voc}")
    (voc / "annotations-2").rename(voc / "Annotations")
    with pytest.raises(ValueError, match="between 0 and 1. Received: 2.0"):
        Voc(voc, validation_fraction=2.0)
    for path in (voc / "Annotations").iterdir():
        path.write_text(xml())
    with pytest.raises(ValueError, match="voc:.*boxes are needed. Received: no box"):
        open_source(f"voc:{voc}")
    for path in (voc / "Annotations").iterdir():
        path.write_text(xml()[:-9])
    with pytest.raises(ValueError, match=r"no box \(.*0.jpg: its annotation .* cannot be read"):
        open_source(f"voc:{voc}")
