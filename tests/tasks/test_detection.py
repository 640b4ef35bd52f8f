"""The task on answers that are known: what a perfect detector would say of boxes."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilevit_keras.palette import class_colours
from mobilevit_keras.tasks import Detection, get_task, task_of
from tests.tiny import build_tiny_detector

NAMES = ("cat", "dog", "cow")
K = len(NAMES)
SIZE = (64, 96)
# Heights and widths of the original images.
SHAPES = np.array([(128, 192), (640, 96)], "int32")
BOXES = np.array([[(10, 20, 90, 110), (60, 5, 180, 60)], [(8, 100, 70, 500), (0, 0, 0, 0)]], "f")
LABELS = np.array([[2, 0], [1, -1]])


@pytest.fixture(scope="module")
def model():
    return build_tiny_detector(K, NAMES, num_layers=(1, 1, 1))


@pytest.fixture(scope="module")
def targets() -> dict[str, np.ndarray]:
    """As a batch of an evaluation has them, whole."""
    return {"boxes": BOXES, "labels": LABELS, "shape": SHAPES, "ignored": np.zeros((2, 2), int)}


@pytest.fixture(scope="module")
def task(model) -> Detection:
    return Detection().for_size(model, SIZE)


@pytest.fixture(scope="module")
def outputs(model) -> dict[str, np.ndarray]:
    """What a file would say that knows the truth."""
    scale = np.tile(SIZE[::-1], 2) / np.tile(SHAPES[:, ::-1], (1, 2))
    boxes = {"boxes": BOXES * scale[:, None], "labels": LABELS}
    _, matched = Detection().prepare(model)(tf.zeros((2, *SIZE, 3)), boxes)
    logits = 12.0 * tf.one_hot(matched["logits"], K + 1)
    answers = tf.where(matched["logits"][..., None] > 0, matched["boxes"], 0.0)
    served = Detection().serve({"boxes": answers, "logits": logits})
    return {name: np.asarray(values) for name, values in served.items()}


def test_it_is_in_the_table(model):
    assert type(get_task("detection")) is Detection
    assert type(task_of(model)) is Detection
    with pytest.raises(ValueError, match="one of .'paper', 'mediapipe'.. Received: 'soft'"):
        Detection("soft")


class TestPrepare:
    def test_one_trace_for_all_sizes_and_empty_images(self, model):
        prepare, traces = Detection().prepare(model), []

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
        def run(images):
            traces.append(1)
            boxes = {"boxes": BOXES, "labels": np.array([[2, 0], [-1, -1]])}
            return prepare(images, boxes)[1]

        for height, width in ((32, 32), (64, 96), (80, 48)):
            found = run(np.zeros((2, height, width, 3), "float32"))
            boxes = {"boxes": BOXES, "labels": np.array([[2, 0], [-1, -1]])}
            expected = model.targets(boxes, height, width)
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
            assert not np.any(found["logits"][1]) and np.any(found["logits"][0])
        assert traces == [1]

    def test_crowds_are_not_learned(self, model):
        y = {"boxes": BOXES, "labels": LABELS, "ignored": np.array([[2, 1], [0, 0]])}
        _, matched = Detection().prepare(model)(tf.zeros((2, *SIZE, 3)), y)
        assert set(np.unique(matched["logits"][0])) == {0, 1}


class TestMeter:
    def test_the_truth_is_perfect_in_pixels_of_the_originals(self, task, outputs, targets):
        meter = task.meter(NAMES)
        meter.update(outputs, targets)
        assert meter.result() == pytest.approx({"map": 1.0, "map50": 1.0, "map75": 1.0})
        assert list(meter.result())[0] == Detection.monitor
        details = meter.details()
        assert details["map_by_class"] == pytest.approx(dict.fromkeys(NAMES, 1.0))
        assert details["map50_by_class"] == pytest.approx(dict.fromkeys(NAMES, 1.0))
        assert details["map_by_size"] == pytest.approx({"medium": 1.0, "large": 1.0})

    def test_the_file_says_y_before_x(self, task, outputs, targets):
        meter = task.meter(NAMES)
        meter.update({**outputs, "location": outputs["location"][..., [1, 0, 3, 2]]}, targets)
        assert meter.result()["map75"] < 0.9

    def test_what_need_not_be_found(self, task, outputs, targets):
        """Without the answers to one image, which holds a difficult object and nothing else."""
        outputs = {**outputs, "score": outputs["score"] * np.array([1.0, 0.0])[:, None, None]}
        meter = task.meter(NAMES)
        meter.update(outputs, targets)
        assert meter.result()["map"] == pytest.approx(2 / 3)
        meter = task.meter(NAMES)
        meter.update(outputs, {**targets, "ignored": np.array([[0, 0], [1, 0]])})
        assert meter.result()["map"] == pytest.approx(1.0)

    def test_without_any_box(self, task, outputs, targets):
        meter = task.meter(NAMES)
        meter.update(outputs, {**targets, "labels": np.full((2, 2), -1)})
        assert meter.result() == {"map": 0.0, "map50": 0.0, "map75": 0.0}
        assert meter.details()["map_by_class"] == {}


def test_suppression_of_one_box_of_two_classes(task, outputs):
    """The paper keeps both, MediaPipe the surer."""
    best = outputs["score"][0].max()
    score = np.where(outputs["score"] > 0.5, outputs["score"], 0.0)
    score[..., 1] = np.maximum(score[..., 1], 0.9 * score[..., 2])
    answers = {**outputs, "score": score}
    paper = task.find(answers, 0.3)[0]
    mediapipe = task.with_rules("mediapipe").find(answers, 0.3)[0]
    assert sorted(paper["labels"]) == [0, 1, 2] and sorted(mediapipe["labels"]) == [0, 2]
    assert mediapipe["scores"].max() == pytest.approx(best)


class TestDistance:
    def test_is_smallest_for_the_teachers_own_answers(self, model, rng):
        images = rng.random((2, *SIZE, 3), "float32")
        teacher, task = model(images), Detection()
        own = float(task.distance(teacher, teacher))
        for name in ("boxes", "logits"):
            noise = rng.normal(0, 0.5, teacher[name].shape).astype("float32")
            assert float(task.distance(teacher, {**teacher, name: teacher[name] + noise})) > own

    def test_boxes_count_where_the_teacher_is_sure(self):
        logits = np.zeros((1, 3, K + 1), "float32")
        logits[0, :, 0] = 9.0
        logits[0, 1, 2] = 20.0
        teacher = {"logits": logits, "boxes": np.zeros((1, 3, 4), "float32")}
        boxes = np.zeros((1, 3, 4), "float32")
        boxes[0, 0] = boxes[0, 2] = 5.0
        same = float(Detection().distance(teacher, teacher))
        assert float(Detection().distance(teacher, {**teacher, "boxes": boxes})) == same
        boxes[0, 1] = 2.0
        moved = float(Detection().distance(teacher, {**teacher, "boxes": boxes}))
        assert moved - same == pytest.approx(4 * 1.5, rel=1e-5)


def test_a_caption_counts_the_objects():
    target = {"labels": np.array([1, 1, 0, 1, 2, 0, -1, -1]), "boxes": np.zeros((8, 4))}
    assert Detection().captions(target, NAMES) == ["3 dog", "2 cat"]
    assert Detection().captions({"labels": np.full(3, -1)}, NAMES) == []


def test_answers_are_the_classes_of_the_surest_boxes(task, outputs):
    score = outputs["score"] * np.array([0.6, 0.8, 0.9], "float32")
    first, second = task.answers({**outputs, "score": score}, NAMES, top=5)
    assert [name for name, _ in first] == ["cow", "cat"] and [n for n, _ in second] == ["dog"]
    assert first[0][1] == pytest.approx(0.9, abs=1e-3)
    assert task.answers({**outputs, "score": score}, None, top=1)[0][0][0] == "2"


class TestPictures:
    def test_curves(self, task, outputs, targets, tmp_path):
        meter = task.meter(NAMES)
        meter.update(outputs, targets)
        task.draw(meter, NAMES, tmp_path / "curves.png")
        task.draw(task.meter(NAMES), NAMES, tmp_path / "empty.png")
        for name in ("curves", "empty"):
            with Image.open(tmp_path / f"{name}.png") as picture:
                assert picture.width > 2 * picture.height > 800

    def test_a_sheet_shows_truth_and_answer(self, task, outputs, targets, tmp_path):
        """Frames in the classes' colours, at the same place in both panels of a row."""
        images = np.full((2, *SIZE, 3), 255, "uint8")
        rows = [{name: values[index] for name, values in targets.items()} for index in range(2)]
        path = tmp_path / "sheet.png"
        task.draw_examples(images, outputs, rows, NAMES, path)
        pixels = np.asarray(Image.open(path)).astype(int)
        colour = class_colours()[1:][LABELS[0, 0]]
        is_drawn = np.all(pixels == colour, axis=-1)
        # The panels are 320 pixels wide and 8 apart; the first row's image is 192 wide.
        columns = np.flatnonzero(is_drawn.any(axis=0))
        left = np.array([8, 8 + 320 + 8])[:, None] + np.array([10, 89])
        assert {*left.ravel()} <= {*columns}
        with pytest.raises(ValueError, match="known extension"):
            task.draw_examples(images, outputs, rows, NAMES, tmp_path / "sheet.xyz")


@pytest.mark.slow
def test_compiled_with_its_loss(model, rng):
    task = Detection()
    model.compile(loss=task.loss(), metrics=task.metrics(model))
    images, y = task.prepare(model)(
        rng.random((2, *SIZE, 3), "float32"), {"boxes": BOXES, "labels": LABELS}
    )
    logs = model.test_on_batch(images, y, return_dict=True)
    assert set(logs) == {"loss"} and np.isfinite(logs["loss"])
