"""Classifiers from `.keras` files, with one clear error for whatever else a file may be."""

import zipfile
from pathlib import Path

import keras

from mobilevit_keras.models import MobileViTImageClassifier


def load_classifier(path: str | Path) -> MobileViTImageClassifier:
    """Loads a saved classifier, without its optimizer.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds anything but a `MobileViTImageClassifier`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {path}.")
    rule = "A .keras file with a MobileViTImageClassifier is needed."
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"{rule} Received: {path} ({reason[0] if reason else 'empty'})."
        ) from error
    if not isinstance(model, MobileViTImageClassifier):
        raise ValueError(f"{rule} Received: {path} with a {type(model).__name__}.")
    return model
