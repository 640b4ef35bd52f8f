import json

import numpy as np
import pytest

from mobilevit_keras.data import open_source
from mobilevit_keras.data.sources.coco import Coco
from tests.data.sources.files import names, read, train_on, write_image
from tests.data.sources.test_voc import objects

# Their numbers have gaps, and are not in the order of the list.
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}, {"id": 90, "name": "brush"}]
CROWD = {"iscrowd": 1}


def content(first, count, categories=CATEGORIES, **more):
    """Some images, the first without a box, each next one with one more."""
    images, annotations = [], []
    for number in range(count):
        images.append(
            {"id": 100 + first + number, "file_name": f"{first + number}.jpg"}
            | {"width": 36, "height": 24}
        )
        for k in range(number):
            annotations.append(
                {"id": len(annotations), "image_id": 100 + first + number, "iscrowd": 0}
                | {"bbox": [2 * k, 3, 10.5, 20], "category_id": (17, 18, 90)[k % 3]}
            )
    return {"images": images, "annotations": annotations, "categories": categories} | more


def write_json(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents))


def write_images(folder, first, count):
    for number in range(first, first + count):
        write_image(folder / f"{number}.jpg", number)


TRAIN = "annotations/instances_train2017.json"


@pytest.fixture
def coco(tmp_path):
    """COCO's own layout: five images and three."""
    root = tmp_path / "coco"
    for split, first, count in (("train2017", 0, 5), ("val2017", 5, 3)):
        write_images(root / split, first, count)
        write_json(root / "annotations" / f"instances_{split}.json", content(first, count))
        # Captions of the same images, which have no boxes.
        write_json(root / "annotations" / f"captions_{split}.json", {"annotations": []})
    return root


def edit(coco, change):
    """Changes what the training file says."""
    contents = content(0, 5)
    change(contents)
    write_json(coco / TRAIN, contents)


def test_boxes_have_corners_and_classes_no_gaps(coco):
    source = open_source(f"coco:{coco}")
    assert source.fields == ("boxes", "labels")
    assert source.class_names == ("cat", "dog", "brush")
    assert source.left_out == ""
    train, validation = objects(source), objects(source, "validation")
    assert list(train) == list("01234") and list(validation) == list("567")
    assert train["0"] == {"boxes": [], "labels": []}
    assert train["3"] == {
        "boxes": [[0, 3, 10.5, 23], [2, 3, 12.5, 23], [4, 3, 14.5, 23]],
        "labels": [0, 1, 2],
    }
    targets, skipped = read(source)
    assert skipped.count == 0
    assert all(y["boxes"].shape == (1, 4, 4) for y in targets)
    np.testing.assert_array_equal(targets[0]["labels"], [[-1] * 4])
    np.testing.assert_array_equal(targets[3]["boxes"][0, :3], train["3"]["boxes"])


def test_training_takes_them(coco):
    batches, skipped = train_on(open_source(f"coco:{coco}"))
    assert skipped.count == 0
    for images, targets in batches:
        assert targets["boxes"].shape == (len(images), 4, 4)


@pytest.mark.parametrize("fields", [("boxes", "labels"), ("boxes", "labels", "ignored")])
def test_crowds_are_for_evaluation_alone(coco, fields):
    edit(coco, lambda contents: contents["annotations"][1].update(CROWD))
    contents = content(5, 3)
    contents["annotations"][1] |= CROWD
    write_json(coco / "annotations" / "instances_val2017.json", contents)
    source = open_source(f"coco:{coco}", fields=fields)
    assert objects(source)["2"]["labels"] == [1]
    validation = objects(source, "validation")["7"]
    if "ignored" in fields:
        assert objects(source)["2"]["ignored"] == [0]
        assert validation == {
            "boxes": [[0, 3, 10.5, 23], [2, 3, 12.5, 23]],
            "labels": [0, 1],
            "ignored": [2, 0],
        }
    else:
        assert validation["labels"] == [1]


def test_a_crowd_is_one_by_what_is_written_and_not_by_its_being_there(coco):
    def tell(contents):
        for annotation, text in zip(contents["annotations"], ("0", "1"), strict=False):
            annotation["iscrowd"] = text

    edit(coco, tell)
    assert objects(open_source(f"coco:{coco}"))["2"]["labels"] == [1]
    edit(coco, lambda contents: contents["annotations"][1].update(iscrowd="0"))
    assert len(objects(open_source(f"coco:{coco}"))["2"]["labels"]) == 2


def test_crowds_alone_are_an_error(coco):
    edit(coco, lambda contents: [each.update(CROWD) for each in contents["annotations"]])
    with pytest.raises(ValueError, match="boxes are needed. Received: no box but around crowds"):
        open_source(f"coco:{coco}")


LAYOUTS = {
    "coco": ({}, {"instances_train2017": "train2017", "instances_val2017": "val2017"}),
    "images": ({}, {"instances_train": "images/train", "instances_val": "images/val"}),
    "other names": (
        {},
        {"annotations/train2017": "train", "annotations/val2017": "images/validation"},
    ),
    "one folder": ({}, {"annotations/train": "images", "annotations/validation": "images"}),
    "beside": ({}, {"train/_annotations.coco": "train", "valid/_annotations.coco": "valid"}),
    "test": ({}, {"annotations/train": "train", "annotations/test": "test"}),
    "all three": (
        {"annotations/test": "test"},
        {"annotations/train": "train", "annotations/val": "val"},
    ),
    "plain": ({}, {"train": "", "val": ""}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    others, files = LAYOUTS[layout]
    for (file, folder), first in zip(files.items(), (0, 5), strict=True):
        write_json(tmp_path / f"{file}.json", content(first, 5))
        write_images(tmp_path / folder, first, 5)
    for file, folder in others.items():
        write_json(tmp_path / f"{file}.json", content(20, 2))
        write_images(tmp_path / folder, 20, 2)
    source = open_source(f"coco:{tmp_path}")
    assert list(objects(source)) == list("01234")
    assert list(objects(source, "validation")) == list("56789")
    assert source.left_out == ""


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/instances_default", "images"),
        ("annotations/instances_default", "images/default"),
        ("train", "train"),
        ("result", ""),
    ],
)
def test_of_a_single_file_a_part_is_held_out(tmp_path, file, folder):
    write_json(tmp_path / f"{file}.json", content(0, 9))
    write_images(tmp_path / folder, 0, 9)
    for path in (tmp_path, tmp_path / f"{file}.json"):
        source = open_source(f"coco:{path}")
        found = [list(objects(source, split)) for split in ("train", "validation")]
        assert all(found)
        assert sorted(sum(found, [])) == list("012345678")
        more = names(Coco(path, validation_fraction=0.8), "validation")
        assert set(names(source, "validation")) < set(more)


def test_boxes_that_cannot_be_used_are_counted(coco):
    def change(contents):
        boxes = [
            [-5, -5, 20, 20],
            [30, 20, 100, 100],
            [3, 3, 0, 5],
            [3, 3, 5, -2],
            [36, 3, 5, 5],
            [float("nan"), 3, 5, 5],
            [3, 3, float("inf"), 5],
            ["3", "3", "5", "5"],
            [3, 3, 5],
            None,
            "3 3 5 5",
            [True, 3, 5, 5],
            [10**400, 3, 5, 5],
            # In float32 its right edge is its left one.
            [20, 3, 1e-7, 5],
        ]
        plain = {"image_id": 100, "category_id": 17}
        contents["annotations"] += [{**plain, "id": k, "bbox": box} for k, box in enumerate(boxes)]
        contents["annotations"] += [
            {"id": 50, "image_id": 100, "bbox": [1, 1, 5, 5], "category_id": 5},
            {"id": 51, "image_id": 100, "bbox": [1, 1, 5, 5], "category_id": [17]},
            {"id": 52, "image_id": 999, "bbox": [1, 1, 5, 5], "category_id": 17},
            {"id": 53, "bbox": [1, 1, 5, 5], "category_id": 17},
            {"id": 54, "image_id": {}, "bbox": [1, 1, 5, 5], "category_id": 17},
            {"id": 55, "image_id": 100, "category_id": 17},
            "no annotation",
            None,
        ]

    edit(coco, change)
    source = open_source(f"coco:{coco}")
    assert objects(source)["0"]["boxes"] == [[0, 0, 15, 15], [30, 20, 36, 24]]
    assert source.left_out == (
        "20 boxes left out: 9 that are not four numbers, such as 0.jpg: "
        '{"id": 5, "image_id": 100, "bbox": [NaN, 3, 5, 5]}; '
        '5 of an image that is not listed, such as {"id": 52, "image_id": 999, "bbox": [1, 1, 5, '
        '5]}; 3 without area, such as 0.jpg: {"id": 2, "image_id": 100, "bbox": [3, 3, 0, 5]}; '
        '2 of no known class, such as 0.jpg: {"id": 50, "image_id": 100, "bbox": [1, 1, 5, 5]}; '
        '1 outside of the image, 0.jpg: {"id": 4, "image_id": 100, "bbox": [36, 3, 5, 5]}'
    )


def test_boxes_as_text_throughout_are_an_error(coco):
    def change(contents):
        for annotation in contents["annotations"]:
            annotation["bbox"] = [str(value) for value in annotation["bbox"]]

    edit(coco, change)
    with pytest.raises(
        ValueError, match=r'boxes are needed. Received: no box \(.*four numbers.*\["0", "3", "10.5"'
    ):
        open_source(f"coco:{coco}")


def test_images_that_cannot_be_used(coco):
    def change(contents):
        contents["images"] += [
            {"id": 200},
            {"file_name": "200.jpg"},
            {"id": 201, "file_name": 7},
            {"id": 202, "file_name": "a\0b.jpg"},
            {"id": 203, "file_name": "0.jpg"},
            {"id": 100, "file_name": "203.jpg"},
            "204.jpg",
        ]

    edit(coco, change)
    write_image(coco / "train2017" / "300.jpg")
    (coco / "train2017" / "README.txt").write_text("no image")
    source = open_source(f"coco:{coco}")
    assert list(objects(source)) == list("01234")
    assert source.left_out == (
        '8 files left out: 5 image(s) without an id and a file_name, such as {"id": 200}; '
        "2 image(s) that are listed already, such as 0.jpg; "
        "1 image(s) that no JSON file names, 300.jpg"
    )


def test_sizes_that_are_not_told_are_looked_up(coco):
    def change(contents):
        del contents["images"][1]["width"]
        contents["images"][2]["height"] = "24"
        contents["images"][3]["height"] = 0
        for annotation in contents["annotations"]:
            annotation["bbox"] = [30, 3, 50, 10]

    edit(coco, change)
    found = objects(open_source(f"coco:{coco}"))
    assert all(box == [30, 3, 36, 13] for name in "1234" for box in found[name]["boxes"])


@pytest.mark.parametrize("side", [0, -24, 2**31, 10**30, "24", True, None])
def test_sizes_that_no_image_has_are_looked_up(coco, side):
    edit(coco, lambda contents: contents["images"][1].update(height=side))
    assert objects(open_source(f"coco:{coco}"))["1"]["boxes"] == [[0, 3, 10.5, 23]]


def test_names_that_no_file_can_have(coco):
    def change(contents):
        contents["images"][0]["file_name"] = "\ud800.jpg"
        contents["images"][1]["file_name"] = "x" * 300 + ".jpg"

    edit(coco, change)
    source = open_source(f"coco:{coco}")
    assert "1 image(s) without an id and a file_name, {" in source.left_out
    _, skipped = read(source)
    assert skipped.count == 1 and "x.jpg (there is no such file)" in str(skipped)


def test_a_split_without_images(coco):
    write_json(coco / "annotations" / "instances_val2017.json", content(5, 0))
    with pytest.raises(ValueError, match="coco:.*: the split 'validation' holds no images"):
        open_source(f"coco:{coco}")


def test_images_that_are_missing_or_others_are_named_when_it_is_their_turn(coco):
    def change(contents):
        contents["images"][1] |= {"width": 24, "height": 36}

    edit(coco, change)
    (coco / "train2017" / "2.jpg").unlink()
    source = open_source(f"coco:{coco}")
    assert source.num_examples("train") == 5
    _, skipped = read(source)
    _, trained = train_on(source, last_batch="fill")
    assert set(skipped.names) == {str(coco / "train2017" / f"{number}.jpg") for number in (1, 2)}
    assert set(trained.names) == set(skipped.names)
    assert "1.jpg (its boxes are of an image of 24 x 36 pixels, and it has 36 x 24)" in str(skipped)
    assert "2.jpg (there is no such file)" in str(skipped)
    with pytest.raises(ValueError, match=r"must be readable. Received: .*jpg \(.+\)"):
        train_on(source, strict=True)


def test_categories_of_the_validation_file(coco):
    """The same names may have other numbers; one that is trained on nowhere comes last."""
    categories = [
        {"id": 1, "name": "brush"},
        {"id": 2, "name": "axe"},
        {"id": 17, "name": "dog"},
        {"id": 18, "name": "cat"},
        {"id": 90, "name": "axe"},
    ]
    path = coco / "annotations" / "instances_val2017.json"
    write_json(path, content(5, 4, categories))
    write_images(coco / "val2017", 8, 1)
    source = open_source(f"coco:{coco}")
    assert source.class_names == ("cat", "dog", "brush", "axe")
    assert objects(source, "validation")["8"]["labels"] == [1, 0, 3]


def test_an_image_of_both_files_is_trained_on_alone(tmp_path):
    write_json(tmp_path / "train.json", content(0, 5))
    write_json(tmp_path / "val.json", content(3, 5))
    write_images(tmp_path / "images", 0, 8)
    source = open_source(f"coco:{tmp_path}")
    assert list(objects(source, "validation")) == list("567")
    assert source.left_out == (
        "2 files left out: 2 of both splits, which are trained on, such as 3.jpg"
    )


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            json.dumps(content(0, 5))[:-40],
            r"must be a whole JSON file. Received: .*json \(.+column",
        ),
        ("", "must be a whole JSON file"),
        ("\udcff", "must be a whole JSON file"),
        ("[" * 100_000, "must be a whole JSON file"),
        ("[]", "without images, annotations, categories"),
        ('{"images": [], "annotations": {}}', "without annotations, categories"),
        (
            json.dumps(content(0, 5, [{"id": 1}])),
            r"id of its own and a name. .*json with \{.id.: 1",
        ),
        (json.dumps(content(0, 5, ["dog"])), "id of its own and a name"),
        (json.dumps(content(0, 5, CATEGORIES * 2)), "id of its own and a name"),
        (json.dumps(content(0, 5, [])), "boxes are needed. Received: no box .10 boxes left out"),
        (json.dumps(content(0, 0)), "boxes are needed"),
        (json.dumps(content(0, 1)), "boxes are needed. Received: no box"),
    ],
)
def test_bad_files(coco, contents, message):
    (coco / TRAIN).write_bytes(contents.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as caught:
        open_source(f"coco:{coco}")
    assert len(str(caught.value)) < 1000


def test_one_file_without_images(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "instances.json").write_text(json.dumps(content(0, 0)))
    with pytest.raises(ValueError, match="images with boxes are needed. Received: no box"):
        open_source(f"coco:{tmp_path}")


def test_files_that_are_not_found(coco, tmp_path):
    with pytest.raises(FileNotFoundError, match="COCO's annotations is needed. Received: .*absent"):
        open_source(f"coco:{tmp_path}/absent")
    write_json(coco / "annotations" / "instances_train2014.json", content(0, 5))
    with pytest.raises(ValueError, match=r"must be for 'train'. .*instances_train2014.json'"):
        open_source(f"coco:{coco}")
    (coco / "annotations" / "instances_train2014.json").unlink()
    (coco / "train2017").rename(coco / "pictures")
    with pytest.raises(
        FileNotFoundError,
        match="instances_train2017.json must lie in a folder called 'train2017' or 'images'.*0.jpg",
    ):
        open_source(f"coco:{coco}")
    (coco / TRAIN).unlink()
    with pytest.raises(FileNotFoundError, match="annotations to train on is needed, such as"):
        open_source(f"coco:{coco}")
    with pytest.raises(ValueError, match="between 0 and 1. Received: 1.5"):
        Coco(coco, validation_fraction=1.5)
