"""A detector's boxes by the table that the device script and the browser read as well."""

import json
from pathlib import Path

import numpy as np

from convert.device import predict
from mobilevit_keras.boxes import BoxDecoding, suppress

TABLE = json.loads((Path(__file__).parents[1] / "data/box_cases.json").read_text("utf-8"))


def test_anchors_and_boxes_relative_to_them():
    size = tuple(TABLE["size"])
    decoding = BoxDecoding.from_json(size, TABLE["decoding"])
    on_devices = predict.make_anchors(TABLE["decoding"], *size)
    location = np.zeros((len(decoding.anchors), 4), np.float32)
    for case in TABLE["boxes"]:
        location[case["number"]] = case["location"]
    boxes = decoding.boxes(location)
    same = predict.decode(location, on_devices, TABLE["decoding"]["variance"])
    for case in TABLE["boxes"]:
        number = case["number"]
        for anchors in (decoding.anchors, on_devices):
            np.testing.assert_allclose(anchors[number], case["anchor"], atol=2e-6)
        for found in (boxes, same):
            np.testing.assert_allclose(found[number], case["box"], rtol=2e-5, atol=2e-6)


def test_of_boxes_of_a_class_that_lie_on_each_other_the_surest_stays():
    case = TABLE["suppression"]
    boxes, scores = np.array(case["boxes"], np.float32), np.array(case["scores"], np.float32)
    wanted = [(*boxes[box], label, scores[box, label]) for box, label in case["kept"]]
    rules = {"iou_threshold": case["iou_threshold"], "per_class": True}
    (found,) = suppress(boxes[None], scores[None], case["score_threshold"], **rules)
    on_devices = predict.suppress(boxes, scores, case["score_threshold"], **rules)
    for each in ((found["boxes"], found["labels"], found["scores"]), on_devices):
        rows = np.concatenate([each[0], each[1][:, None], each[2][:, None]], axis=1)
        np.testing.assert_allclose(rows, wanted, atol=1e-6)
