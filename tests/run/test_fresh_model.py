"""What a training without `--weights` starts from."""

import pytest

from train import assembly
from train.config import SegmentationConfig


@pytest.mark.parametrize(
    ("variant", "aspp_dropout"), [("mobilevit_xxs", 0.1), ("mobilevitv2_050", 0.0)]
)
def test_dropouts_of_a_fresh_head(variant, aspp_dropout):
    """Those of the flags, and where nothing is said that of the variant's authors."""
    values = {"variant": variant, "evaluation_size": (64,), "classifier_dropout": 0.3}
    for given, expected in (({}, aspp_dropout), ({"aspp_dropout": 0.2}, 0.2)):
        model = assembly.build_model(SegmentationConfig(**values, **given), ("a", "b"))
        assert (model.head.aspp.dropout, model.head.drop.rate) == (expected, 0.3)
