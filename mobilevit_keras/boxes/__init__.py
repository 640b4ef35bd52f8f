"""What is done with boxes: anchors, coding, matching, suppression. Arrays in, arrays out."""

from mobilevit_keras.boxes.anchors import (
    ASPECT_RATIOS,
    MAX_SCALE,
    MIN_SCALE,
    image_anchors,
    num_anchors,
    ssd_anchors,
)
from mobilevit_keras.boxes.coding import decode_boxes, encode_boxes, to_pixels
from mobilevit_keras.boxes.decoding import FILE_ORDER, BoxDecoding, file_order
from mobilevit_keras.boxes.matching import BACKGROUND, PADDING, match_anchors
from mobilevit_keras.boxes.suppression import RULES, overlaps, suppress

__all__ = [
    "ASPECT_RATIOS",
    "BACKGROUND",
    "BoxDecoding",
    "FILE_ORDER",
    "MAX_SCALE",
    "MIN_SCALE",
    "PADDING",
    "RULES",
    "decode_boxes",
    "encode_boxes",
    "file_order",
    "image_anchors",
    "match_anchors",
    "num_anchors",
    "overlaps",
    "ssd_anchors",
    "suppress",
    "to_pixels",
]
