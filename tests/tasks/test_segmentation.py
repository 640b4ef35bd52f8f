"""The task against plain NumPy, at the size of the images."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mobilevit_keras.tasks import Segmentation, get_task, task_of
from mobilevit_keras.tasks.pictures import check_plot
from tests.tiny import build_tiny_segmenter

NAMES = ("sky", "road", "car", "tree")
K = len(NAMES)
SHAPES = np.array([(40, 56), (64, 30)])


@pytest.fixture
def logits(rng) -> np.ndarray:
    return rng.normal(size=(2, 3, 4, K)).astype("float32")


@pytest.fixture
def masks(rng) -> list[np.ndarray]:
    """Masks of the images' own sizes; the last class occurs nowhere."""
    masks = [rng.integers(0, K - 1, shape).astype("uint8") for shape in SHAPES]
    masks[0][:7] = 255
    return masks


def padded(masks) -> dict[str, np.ndarray]:
    """As a batch has them."""
    height, width = SHAPES.max(axis=0)
    batch = np.full((len(masks), height, width), 255, "uint8")
    for row, mask in zip(batch, masks, strict=True):
        row[: mask.shape[0], : mask.shape[1]] = mask
    return {"mask": batch, "shape": SHAPES.astype("int32")}


def answers_of(logits) -> list[np.ndarray]:
    """The class of every pixel, by TensorFlow's own resize."""
    return [
        tf.image.resize(image, shape, method="bilinear").numpy().argmax(-1)
        for image, shape in zip(logits, SHAPES, strict=True)
    ]


def test_it_is_in_the_table():
    assert type(get_task("segmentation")) is Segmentation
    assert type(task_of(build_tiny_segmenter())) is Segmentation


class TestMeter:
    def test_against_numpy(self, logits, masks):
        logits[..., 3] = -99.0
        meter = Segmentation().meter(NAMES)
        for index in range(2):
            batch = {name: values[index : index + 1] for name, values in padded(masks).items()}
            meter.update({"segmentation": logits[index : index + 1]}, batch)
        matrix = np.zeros((K, K), np.int64)
        for answer, mask in zip(answers_of(logits), masks, strict=True):
            for k in range(K):
                for other in range(K):
                    matrix[k, other] += np.sum((mask == k) & (answer == other))
        np.testing.assert_array_equal(meter.matrix, matrix)
        assert meter.matrix.dtype == np.int64 and meter.matrix.sum() == 40 * 56 + 64 * 30 - 7 * 56
        iou = [
            matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]) for k in (0, 1, 2)
        ]
        np.testing.assert_allclose(meter.class_iou[:3], iou)
        # What is neither there nor answered is no class of the mean.
        assert np.isnan(meter.class_iou[3])
        assert meter.result()["mean_iou"] == pytest.approx(np.mean(iou))
        assert meter.result()["pixel_accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
        assert list(meter.result())[0] == Segmentation.monitor
        assert meter.details() == {"class_iou": pytest.approx(dict(zip(NAMES, iou, strict=False)))}

    def test_of_images_of_one_size_it_is_the_metric_of_training(self, rng, logits):
        masks = rng.integers(0, K, (2, 24, 32)).astype("uint8")
        masks[:, :5] = 255
        (metric, accuracy) = Segmentation().metrics(build_tiny_segmenter(K))
        metric.update_state(masks, logits)
        accuracy.update_state(masks, logits)
        meter = Segmentation().meter(NAMES)
        meter.update({"segmentation": logits}, {"mask": masks, "shape": np.array([(24, 32)] * 2)})
        found = {metric.name: float(metric.result()), accuracy.name: float(accuracy.result())}
        assert meter.result() == pytest.approx(found, abs=1e-6)

    def test_without_any_pixel(self, logits):
        meter = Segmentation().meter(NAMES)
        assert meter.result() == {"mean_iou": 0.0, "pixel_accuracy": 0.0}
        assert meter.details() == {"class_iou": {}}


class TestDistance:
    def test_is_smallest_for_the_teachers_own_answers(self, logits):
        task = Segmentation()
        own = float(task.distance(logits, logits))
        entropy = -np.mean(np.sum(tf.nn.softmax(logits) * tf.nn.log_softmax(logits), -1))
        assert own == pytest.approx(entropy, rel=1e-5)
        assert float(task.distance(logits, logits[::-1])) > own

    def test_the_temperature_keeps_the_gradients_size(self, logits, rng):
        outputs = tf.constant(rng.normal(size=logits.shape).astype("float32"))
        gradients = []
        for temperature in (1.0, 10.0):
            with tf.GradientTape() as tape:
                tape.watch(outputs)
                distance = Segmentation().distance(tf.constant(logits), outputs, temperature)
            gradients.append(np.linalg.norm(tape.gradient(distance, outputs)))
        assert 0.3 < gradients[1] / gradients[0] < 3.0


def test_class_weights_are_the_losss(logits, rng):
    masks = rng.integers(0, K, (2, 24, 32))
    weights = (1.0, 2.0, 0.5, 4.0)
    assert Segmentation(weights).loss().class_weights == weights
    assert float(Segmentation(weights).loss()(masks, logits)) != float(
        Segmentation().loss()(masks, logits)
    )
    with pytest.raises(ValueError, match="`class_weights` must be numbers of at least 0"):
        Segmentation((-1.0, 1.0))


def test_a_caption_names_the_largest_classes():
    mask = np.full((10, 10), 255, "uint8")
    mask[:8] = 1
    mask[:2] = 2
    mask[:1, :4] = 0
    assert Segmentation().captions(mask, NAMES) == ["75% road", "20% car"]
    assert Segmentation().captions(np.full((4, 4), 255, "uint8"), NAMES) == []


def test_answers_are_the_shares_of_the_pixels():
    logits = np.zeros((2, 2, 4, K), "float32")
    logits[0, ..., 2] = 1.0
    logits[1, :, :3, 1] = 1.0
    logits[1, :, 3, 0] = 1.0
    first, second = Segmentation().answers({"segmentation": logits}, NAMES, top=5)
    assert first == [("car", 1.0)]
    assert [name for name, _ in second] == ["road", "sky"]
    assert second[0][1] == pytest.approx(0.75, abs=0.03)
    assert Segmentation().answers({"segmentation": logits}, None, top=1)[1][0][0] == "1"


def test_what_is_told_of_a_file():
    model = build_tiny_segmenter(2, ("a", "b"))
    outputs = np.ones((1, 2, 2, 2), "float32")
    assert Segmentation().serve(outputs) == {"segmentation": outputs}
    (output,) = Segmentation().file_outputs(model)
    assert (output.name, output.labels) == ("segmentation", ("a", "b"))


class TestPictures:
    def test_the_confusion(self, logits, masks, tmp_path):
        task = Segmentation()
        meter = task.meter(NAMES)
        meter.update({"segmentation": logits}, padded(masks))
        task.draw(meter, NAMES, tmp_path / "confusion.png")
        with Image.open(tmp_path / "confusion.png") as picture:
            assert picture.width > picture.height > 300

    def test_a_sheet_shows_image_truth_and_answer(self, logits, masks, tmp_path):
        """In colours of the table: the truth's pixels are counted in the picture."""
        from mobilevit_keras.palette import class_colours

        images = np.tile(np.array([70, 80, 200], "uint8"), (2, 32, 32, 1))
        targets = padded(masks)
        rows = [{name: values[index] for name, values in targets.items()} for index in range(2)]
        path = tmp_path / "sheet.png"
        Segmentation().draw_examples(images, {"segmentation": logits}, rows, NAMES, path)
        pixels = np.asarray(Image.open(path)).reshape(-1, 3)
        colours = class_colours()
        for number, shown in ((1, masks), (255, masks)):
            expected = sum(np.sum(mask == number) for mask in shown)
            expected += sum(np.sum(answer == number) for answer in answers_of(logits))
            found = np.sum(np.all(pixels == colours[number], axis=1))
            # The legend's square has it too.
            assert expected <= found <= expected + 11 * 11
        assert np.all(pixels == images[0, 0, 0], axis=1).sum() == np.prod(SHAPES, axis=1).sum()
        with pytest.raises(ValueError, match="known extension"):
            Segmentation().draw_examples(
                images, {"segmentation": logits}, rows, NAMES, tmp_path / "sheet.xyz"
            )


def test_other_tasks_have_no_sheet(tmp_path):
    with pytest.raises(ValueError, match="no sheet of examples for classification"):
        get_task("classification").draw_examples([], {}, [], NAMES, tmp_path / "sheet.png")


@pytest.mark.slow
def test_compiled_with_its_loss_and_metrics(rng):
    model = build_tiny_segmenter(K)
    task = Segmentation((1.0, 1.0, 2.0, 2.0))
    model.compile(loss=task.loss(), metrics=task.metrics(model))
    images = rng.random((2, 32, 48, 3), "float32")
    logs = model.test_on_batch(
        images, rng.integers(0, K, (2, 32, 48)).astype("uint8"), return_dict=True
    )
    assert set(logs) == {"loss", "mean_iou", "pixel_accuracy"}


def test_a_plot_that_could_not_be_written_is_refused_before_the_measurement(tmp_path):
    (tmp_path / "file").touch()
    check_plot(tmp_path / "new" / "plot.png")
    with pytest.raises(NotADirectoryError, match="needs a folder. Received: .*plot.png, in a file"):
        check_plot(tmp_path / "file" / "new" / "plot.png")
