"""The scanned digits that scikit-learn carries, as a tensorflow_datasets builder."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mobilevit_keras.data.sources.scans import scans_of_splits
from mobilevit_keras.data.sources.tfds import TfdsSource, prepare


class MobilevitDigits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits, 8 x 8 pixels, in a fixed split of 1,400 and 397.

    The images are scikit-learn's `load_digits`, the test part of the UCI set "Optical Recognition
    of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998, CC BY 4.0). Nothing is downloaded. Their
    17 grey levels are stretched to 0..255.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Scanned handwritten digits, 8 x 8 pixels, from scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # The data comes with scikit-learn.
        return {
            split: self._generate_examples(indices) for split, indices in scans_of_splits().items()
        }

    def _generate_examples(self, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        for index in indices:
            image = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)
            yield int(index), {"image": image[..., None], "label": int(digits.target[index])}


def open_digits(data_dir: str | None = None) -> TfdsSource:
    """Opens the embedded digits, generating them on first use.

    Args:
        data_dir: Where the data is kept; tensorflow_datasets' own folder by default.

    Raises:
        ValueError: If scikit-learn is not installed, or the folder cannot be written.
    """
    builder = MobilevitDigits(data_dir=data_dir)
    prepare(builder, "digits")
    return TfdsSource("digits", builder)
